#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace xcomposer {

struct WeightHeader;
using WeightHeaders = std::map<std::string, WeightHeader>;

/// How a checkpoint stores the five linears of its decoder layers (model specification 2.4, 2.5;
/// docs/quantisation.md). Everything else is never quantised.
struct Quantization {
  enum class Method {
    kNone,  ///< 16 or 32 bits
    kGptq,  ///< ...linear.qweight, .qzeros, .scales, .g_idx, perhaps .bias
    kAwq,   ///< ...qweight, .qzeros, .scales
  };
  Method method = Method::kNone;
  int64_t bits = 0;        ///< GPTQ 4 or 8, AWQ 4
  int64_t group_size = 0;  ///< inputs that share a scale and a zero; -1: all of a row
  /// Quantised by this program: products may round activations as well (docs/quantisation.md).
  /// Official checkpoints are computed with float32 activations.
  bool rounds_activations = false;

  explicit operator bool() const { return method != Method::kNone; }
  bool operator==(const Quantization&) const = default;

  /// Inputs of a group of a linear with `in` inputs.
  int64_t GroupOf(int64_t in) const { return group_size < 0 ? in : group_size; }
  int64_t GroupsOf(int64_t in) const { return (in + GroupOf(in) - 1) / GroupOf(in); }
};

/// What this program quantises to: GPTQ's layout, 8 bits in groups of 128 or 4 bits in groups of 32
/// (docs/quantisation.md has the measurements).
inline constexpr Quantization kInt8{Quantization::Method::kGptq, 8, 128, true};
inline constexpr Quantization kInt4{Quantization::Method::kGptq, 4, 32, true};

/// "none", "GPTQ 4 bit in groups of 128", ...
std::string ToString(const Quantization& quantization);

/// What quantize_config.json, or quantization_config of config.json, says.
struct DeclaredQuantization {
  std::string file;    ///< where it stood
  std::string method;  ///< "gptq", "awq"; empty where the file does not say
  std::optional<int64_t> bits;
  std::optional<int64_t> group_size;
  bool rounds_activations = false;  ///< "meta" names this program as the quantizer
};

/// What this program writes as "quantizer" of "meta" in quantize_config.json.
inline constexpr const char* kOwnQuantizer = "xcomposer";

/// Reads such an object. Throws kConfig, naming all of them, for values that are not read: another
/// method, order by activation (desc_act), a format of the zeros other than GPTQ's first, an AWQ
/// version other than GEMM, AWQ without zeros, group sizes that no kernel takes.
DeclaredQuantization ParseQuantization(const std::string& text, const std::string& file);

/// What a checkpoint is. The tensors decide where `headers` are given: names and shapes of layer
/// 0's wqkv; `declared` completes them, and without headers is all there is. `in`: inputs of wqkv.
/// Throws kConfig where tensors and declaration differ in bits, kCheckpoint for bits that are not
/// read. What is declared and not there is added to `notes`.
Quantization SettleQuantization(const WeightHeaders* headers,
                                const std::optional<DeclaredQuantization>& declared, int64_t in,
                                std::vector<std::string>& notes);

}  // namespace xcomposer
