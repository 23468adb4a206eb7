#include "api/plan_model.h"

#include <filesystem>
#include <optional>

#include "api/model_folder.h"
#include "pipeline/checkpoint_weights.h"

namespace xcomposer::api {
namespace {

namespace fs = std::filesystem;

bool HasWeights(const fs::path& folder) {
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const fs::path extension = it->path().extension();
    if (extension == ".bin" || extension == ".safetensors") return true;
  }
  return false;
}

}  // namespace

StoredWeights StoredWeightsOf(const WeightHeaders& headers) {
  double wide = 0;
  double half = 0;
  double brain = 0;
  for (const auto& [name, header] : headers) {
    // Packed codes stay as they are, and bf12's parts have no type of their own.
    if (header.dtype == "I32" || WeightOfBf12(name)) continue;
    double numbers = 1;
    for (const int64_t extent : header.shape) numbers *= static_cast<double>(extent);
    (header.dtype == "F32" ? wide : header.dtype == "F16" ? half : brain) += numbers;
  }
  StoredWeights stored{.bf12 = Bf12Count(headers) > 0};
  if (wide > half + brain) {
    stored.type = WeightType::kFloat32;
  } else if (half > brain) {
    stored.type = WeightType::kFloat16;
  }
  return stored;
}

PlanSubject ReadPlanSubject(const std::string& model, const std::string& kind) {
  std::optional<Kind> wanted;
  if (!kind.empty()) wanted = ParseKind(kind);
  std::error_code error;
  const bool is_file = fs::is_regular_file(model, error);
  const fs::path path = is_file ? fs::path(model) : FindModelFolder(model);
  PlanSubject subject;
  if (!is_file && HasWeights(path)) {
    const WeightHeaders headers = HeadersOf(Checkpoint::Open(path));
    subject.config = LoadConfig(path, headers, wanted);
    subject.stored = StoredWeightsOf(headers);
    return subject;
  }
  subject.config = LoadConfig(path, std::nullopt, wanted);
  if (subject.config.torch_dtype == "float32") subject.stored.type = WeightType::kFloat32;
  if (subject.config.torch_dtype == "float16") subject.stored.type = WeightType::kFloat16;
  return subject;
}

}  // namespace xcomposer::api
