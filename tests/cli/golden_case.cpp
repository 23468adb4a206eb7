#include "cli/golden_case.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>

#include "support/largest_difference.h"

namespace xcomposer::testing {
namespace {

namespace fs = std::filesystem;
using Tensors = std::map<std::string, Tensor>;

// What the reference recorded beside the tensors that `trace` writes.
bool IsTraced(const std::string& name) {
  for (const char* end : {"_rows", "_cols", "_crops", "_tokens", "pixels_stats"}) {
    const std::string text = end;
    if (name.size() >= text.size() &&
        name.compare(name.size() - text.size(), text.size(), text) == 0) {
      return false;
    }
  }
  return name.rfind("beam.", 0) != 0;
}

std::optional<Tensor> Find(const Tensors& tensors, const std::string& name) {
  const auto found = tensors.find(name);
  if (found == tensors.end()) return std::nullopt;
  return found->second;
}

// (crops, tokens, width) at the recorded crops and tokens.
Tensor TakeCropsAndTokens(Tensor whole, const Tensors& recorded, const std::string& name) {
  if (const auto crops = Find(recorded, name + "_crops")) whole = TakeRows(whole, *crops);
  const auto tokens = Find(recorded, name + "_tokens");
  if (!tokens) return whole;
  Tensor taken{whole.dtype, {whole.shape[0], tokens->rows(), whole.shape[2]}, {}};
  for (int64_t crop = 0; crop < whole.shape[0]; ++crop) {
    const auto first = whole.values.begin() + crop * whole.row_size();
    const Tensor one{
        whole.dtype, {whole.shape[1], whole.shape[2]}, {first, first + whole.row_size()}};
    const Tensor rows = TakeRows(one, *tokens);
    taken.values.insert(taken.values.end(), rows.values.begin(), rows.values.end());
  }
  return taken;
}

Tensor TakeColumns(const Tensor& whole, const Tensor& columns) {
  const int64_t width = whole.shape.back();
  Tensor taken{whole.dtype, whole.shape, {}};
  taken.shape.back() = columns.rows();
  for (size_t row = 0; row < whole.values.size(); row += static_cast<size_t>(width)) {
    for (const double column : columns.values) {
      taken.values.push_back(whole.values[row + static_cast<size_t>(column)]);
    }
  }
  return taken;
}

// The part of a traced tensor that was recorded.
Tensor Narrow(const std::string& name, const Tensor& whole, const Tensors& recorded) {
  if (name.find(".vit") != std::string::npos) return TakeCropsAndTokens(whole, recorded, name);
  std::optional<Tensor> rows = Find(recorded, name + "_rows");
  if (name.rfind("layer", 0) == 0 || name == "final_norm.out") rows = Find(recorded, "layer_rows");
  if (name == "prefill_logits") rows = Find(recorded, "prefill_rows");
  if (rows) return TakeRows(whole, *rows);
  const auto columns = Find(recorded, name + "_cols");
  return columns ? TakeColumns(whole, *columns) : whole;
}

double Budget(const Tensor& recorded) {
  if (recorded.dtype != "F32") return 0;
  double sum = 0;
  for (const double value : recorded.values) sum += value * value;
  return 1e-4 * std::sqrt(sum / static_cast<double>(std::max<size_t>(recorded.values.size(), 1)));
}

std::string Compare(const std::string& name, const Tensor& got, const Tensor& expected) {
  std::ostringstream out;
  if (got.values.size() != expected.values.size() || got.dtype != expected.dtype) {
    out << name << ": " << got.values.size() << " values of " << got.dtype << ", expected "
        << expected.values.size() << " of " << expected.dtype;
    return out.str();
  }
  const double worst = LargestDifference(got.values, expected.values);
  if (worst <= Budget(expected)) return "";
  out << name << ": largest difference " << worst << ", allowed " << Budget(expected);
  return out.str();
}

std::vector<GoldenCase> FindCases() {
  std::vector<GoldenCase> cases;
  const fs::path goldens = fs::path(SharedData()) / "goldens";
  if (!fs::exists(goldens)) return cases;
  for (const fs::directory_entry& folder : fs::directory_iterator(goldens)) {
    const std::string kind = folder.path().filename().string();
    const fs::path file = folder.path() / "cases.json";
    if (!fs::exists(file)) continue;
    std::ifstream in(file);
    const auto records = nlohmann::json::parse(in);
    for (size_t i = 0; i < records.size(); ++i) {
      cases.push_back({kind, folder.path().string(), static_cast<int64_t>(i), records[i]});
    }
  }
  std::sort(cases.begin(), cases.end(), [](const GoldenCase& a, const GoldenCase& b) {
    return std::tie(a.kind, a.index) < std::tie(b.kind, b.index);
  });
  return cases;
}

}  // namespace

bool GoldenCase::depends_on_earlier() const {
  return record.value("rope_state", std::string("fresh")).rfind("continues after", 0) == 0;
}

nlohmann::json GoldenCase::Request() const {
  nlohmann::json request = record;
  for (size_t i = 0; request["images"].is_array() && i < request["images"].size(); ++i) {
    const std::string video = "image" + std::to_string(i) + ".video";
    if (record.contains(video)) request["images"][i] = {{"canvas", record[video].at("canvas")}};
  }
  return request;
}

std::string SharedData() { return std::string(XCOMPOSER_SHARED_DIR) + "/data"; }

const std::vector<GoldenCase>& GoldenCases() {
  static const std::vector<GoldenCase> cases = FindCases();
  return cases;
}

std::vector<std::string> GoldenKinds() {
  std::vector<std::string> kinds;
  for (const GoldenCase& golden : GoldenCases()) {
    if (kinds.empty() || kinds.back() != golden.kind) kinds.push_back(golden.kind);
  }
  return kinds;
}

std::vector<std::string> CompareTaps(const GoldenCase& golden, const std::string& traced_file) {
  const Tensors recorded =
      ReadTensors(golden.folder + "/" + golden.record.at("taps").get<std::string>());
  const Tensors traced = ReadTensors(traced_file);
  std::vector<std::string> faults;
  for (const auto& [name, expected] : recorded) {
    if (!IsTraced(name)) continue;
    const auto got = traced.find(name);
    const std::string fault = got == traced.end()
                                  ? name + ": was not traced"
                                  : Compare(name, Narrow(name, got->second, recorded), expected);
    if (!fault.empty()) faults.push_back(fault);
  }
  return faults;
}

}  // namespace xcomposer::testing
