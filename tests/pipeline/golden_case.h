#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace xcomposer {

/// A recorded tensor; integers and bytes are widened to float.
struct GoldenTensor {
  std::vector<int64_t> shape;
  std::vector<float> values;

  std::vector<int64_t> AsIndices() const { return {values.begin(), values.end()}; }
};
using GoldenTensors = std::map<std::string, GoldenTensor>;

/// One case of a goldens folder: what went into the published code and what came out.
struct GoldenCase {
  std::filesystem::path folder;  ///< of the kind
  std::string name;
  bool forward_only = false;
  std::vector<std::string> images;
  std::vector<bool> is_video;
  std::optional<int64_t> hd_num;
  std::vector<int32_t> input_ids;  ///< -1 at picture rows
  std::vector<int32_t> output_ids;
  std::vector<int32_t> penalty_ids;  ///< what the processors see before the first step
  double repetition_penalty = 1.0;
  std::vector<int32_t> eos_ids;
  int64_t num_beams = 1;
  bool use_cache = true;
  std::string infer_mode = "base";
  bool fresh_rope = true;
  GoldenTensors taps;
  /// Taps of image i by their short name ("rgb", "vit", ...), wherever they are stored.
  std::vector<GoldenTensors> image_taps;
};

/// The kind folders below `goldens` that hold cases.
std::vector<std::filesystem::path> GoldenFolders(const std::filesystem::path& goldens);

std::vector<std::string> GoldenCaseNames(const std::filesystem::path& folder);

GoldenCase LoadGoldenCase(const std::filesystem::path& folder, const std::string& name);

}  // namespace xcomposer
