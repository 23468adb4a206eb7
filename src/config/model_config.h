#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "config/quantization.h"

/// What a model is made of: config.json, completed by the tensors' headers where they are at hand
/// and by configs/models/<kind>.json (built into the library) for what neither holds.
namespace xcomposer {

/// The members of the family whose published code differs.
enum class Kind { k2_7b, kVl7b, k4khd7b, k25_7b, kVl1_8b };

inline constexpr std::array<Kind, 5> kAllKinds = {Kind::k2_7b, Kind::kVl7b, Kind::k4khd7b,
                                                  Kind::k25_7b, Kind::kVl1_8b};

/// "2-7b", "2-vl-7b", "2-4khd-7b", "2.5-7b", "2-vl-1.8b".
const char* ToString(Kind kind);

/// The inverse of ToString, of what a user asks for. Throws kUsage with the list of names.
Kind ParseKind(const std::string& name);

/// One tensor as a checkpoint's header describes it; dtype in the spelling of safetensors (BF16,
/// F16, F32).
struct WeightHeader {
  std::string dtype;
  std::vector<int64_t> shape;
};

/// The five linears of a decoder layer, by their checkpoint names.
enum class DecoderLinear { kWqkv, kWo, kW1, kW2, kW3 };
inline constexpr int64_t kDecoderLinears = 5;

/// Partial LoRA: y += scale * B (A x) on picture rows.
struct PloraShape {
  int64_t rank = 0;
  double scale = 1.0;
};

/// Ranks of the adapters of 2.5 that apply to all rows; 0 where the kind has none.
struct AdapterRanks {
  int64_t sft = 0;
  int64_t dpo = 0;
  int64_t web = 0;
};

struct RopeConfig {
  enum class Scaling { kNone, kLinear, kDynamic };
  Scaling scaling = Scaling::kNone;
  double theta = 0.0;
  double factor = 1.0;
  int64_t max_positions = 0;
};

struct VisionConfig {
  int64_t hidden_size = 0;
  int64_t layers = 0;
  int64_t heads = 0;  ///< hidden_size / 64
  int64_t intermediate_size = 0;
  int64_t patch = 0;  ///< pixels per side of a patch
  int64_t tile = 0;   ///< pixels per side of one view
  double layer_norm_eps = 0.0;
  bool tiled = false;  ///< 2-4khd-7b, 2.5-7b: global view and tiles, 2x2 merge, separator rows

  int64_t grid() const { return tile / patch; }
  int64_t patches() const { return grid() * grid(); }
  /// Channels that enter vision_proj.
  int64_t merged_width() const { return tiled ? 4 * hidden_size : hidden_size; }
};

struct ModelConfig {
  Kind kind = Kind::kVl7b;

  int64_t hidden_size = 0;
  int64_t layers = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t intermediate_size = 0;
  int64_t vocab_size = 0;
  double rms_norm_eps = 0.0;
  RopeConfig rope;
  int64_t max_length = 0;  ///< prompt rows kept on the embeddings path, model specification 8.5

  int32_t bos_id = 0;
  int32_t eos_id = 0;
  int32_t pad_id = 0;
  std::string torch_dtype;  ///< as written, for example "bfloat16"; for information

  /// Of the decoder's linears and the output matrix.
  Quantization quantization;
  /// The 4bit repositories of 2-7b and 2-vl-7b hold the python from before February 2024, which
  /// treats surplus pictures and marks differently (model specification 2.4, 8.2).
  bool before_february_2024 = false;

  VisionConfig vision;
  std::array<PloraShape, kDecoderLinears> plora;  ///< by DecoderLinear
  AdapterRanks adapters;

  /// Weights of linears that the checkpoint has in 12 bits a number (WeightsIn12Bits).
  std::set<std::string> in_12_bits;

  /// What the files say differently from each other without making the model ambiguous.
  std::vector<std::string> notes;

  int64_t head_dim() const { return hidden_size / heads; }
  int64_t queries_per_kv() const { return heads / kv_heads; }
  /// Output rows of wqkv: per KV head its query heads, the key and the value.
  int64_t wqkv_rows() const { return kv_heads * (queries_per_kv() + 2) * head_dim(); }
  const PloraShape& plora_of(DecoderLinear linear) const {
    return plora[static_cast<size_t>(linear)];
  }
};

/// Reads `path`, a config.json or the folder that holds one. With `headers` the kind, the vision
/// sizes and the ranks come from the tensors; without, from config.json and the kind's description.
/// `kind` overrides the detection. Throws kConfig: unreadable file, missing or wrong fields (all
/// named at once), an ambiguous kind, a position table that contradicts img_size, or a quantisation
/// that is not read (quantize_config.json in the folder, quantization_config in config.json, or the
/// tensors themselves).
ModelConfig LoadConfig(const std::filesystem::path& path,
                       const std::optional<WeightHeaders>& headers = std::nullopt,
                       std::optional<Kind> kind = std::nullopt);

/// The same from the text of a config.json, and of a quantize_config.json where there is one.
ModelConfig ParseConfig(const std::string& text,
                        const std::optional<WeightHeaders>& headers = std::nullopt,
                        std::optional<Kind> kind = std::nullopt,
                        const std::optional<std::string>& quantize_config = std::nullopt);

}  // namespace xcomposer
