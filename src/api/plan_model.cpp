#include "api/plan_model.h"

#include <filesystem>
#include <optional>

#include "api/model_folder.h"
#include "config/weight_names.h"
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

/// Numbers of each type.
class Votes {
 public:
  void Add(const std::string& dtype, const std::vector<int64_t>& shape) {
    double numbers = 1;
    for (const int64_t extent : shape) numbers *= static_cast<double>(extent);
    (dtype == "F32" ? wide_ : dtype == "F16" ? half_ : brain_) += numbers;
  }

  WeightType Most() const {
    if (wide_ > half_ + brain_) return WeightType::kFloat32;
    return half_ > brain_ ? WeightType::kFloat16 : WeightType::kBFloat16;
  }

 private:
  double wide_ = 0;
  double half_ = 0;
  double brain_ = 0;
};

}  // namespace

StoredWeights StoredWeightsOf(const WeightHeaders& headers, const ModelConfig& config) {
  Votes all;
  Votes linears;
  for (const WeightSpec& spec : WeightTable(config)) {
    if (spec.numbers != NumberKind::kFloat) continue;  // packed codes stay as they are
    const auto it = headers.find(spec.name);
    const bool in_12_bits = spec.in_12_bits.value_or(false);
    if (it == headers.end() && !in_12_bits) continue;
    const std::string dtype = in_12_bits ? "BF16" : it->second.dtype;
    all.Add(dtype, spec.shape);
    if (spec.linear) linears.Add(dtype, spec.shape);
  }
  return {.type = all.Most(), .linears = linears.Most(), .bf12 = !config.in_12_bits.empty()};
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
    subject.stored = StoredWeightsOf(headers, subject.config);
    return subject;
  }
  subject.config = LoadConfig(path, std::nullopt, wanted);
  const std::string& declared = subject.config.torch_dtype;
  if (declared == "float32") subject.stored.type = WeightType::kFloat32;
  if (declared == "float16") subject.stored.type = WeightType::kFloat16;
  subject.stored.linears = subject.stored.type;
  return subject;
}

}  // namespace xcomposer::api
