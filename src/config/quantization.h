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
/// docs/quantisation.md) and its output matrix. Everything else is never quantised.
struct Quantization {
  enum class Method {
    kNone,  ///< 16 or 32 bits
    kGptq,  ///< ...linear.qweight, .qzeros, .scales, .g_idx, perhaps .bias
    kAwq,   ///< ...qweight, .qzeros, .scales
    kOwn,   ///< ...codes, .zeros, .scales: quantised by this program
  };
  Method method = Method::kNone;
  int64_t bits = 0;        ///< GPTQ and own 4 or 8, AWQ 4
  int64_t group_size = 0;  ///< inputs that share a scale and a zero; -1: all of a row
  /// Of the output matrix, which lies in the layout of the layers, GPTQ's or own, whatever their
  /// bits are: 4 or 8; 0: it is not quantised.
  int64_t head_bits = 0;
  int64_t head_group_size = 0;  ///< as group_size

  explicit operator bool() const { return method != Method::kNone; }
  bool operator==(const Quantization&) const = default;

  /// Inputs of a group of a linear with `in` inputs.
  int64_t GroupOf(int64_t in) const { return group_size < 0 ? in : group_size; }
  int64_t GroupsOf(int64_t in) const { return (in + GroupOf(in) - 1) / GroupOf(in); }

  /// Whether kernels take such groups of rows of `in` inputs. Own groups hold whole blocks
  /// (OwnBlock) or the row.
  bool TakesGroupsOf(int64_t in) const;

  /// The output matrix as a linear of its own; none where it is not quantised.
  Quantization Head() const;
  /// This, but for an output matrix that does not fill panels (kOwnPanel): it stays as it is
  /// stored.
  Quantization ForVocabulary(int64_t vocab_size) const;
};

/// Outputs that lie side by side in the own layout: own linears have a multiple of them.
inline constexpr int64_t kOwnPanel = 16;

/// Inputs that share a scale of their rounded activations: own groups are multiples of them.
constexpr int64_t OwnBlock(int64_t bits) { return bits == 8 ? 128 : 32; }

/// What this program quantises to: its own layout, 8 bits in groups of 128 or 4 bits in groups of
/// 32, the output matrix always to 8 (docs/quantisation.md has the measurements).
inline constexpr Quantization kInt8{Quantization::Method::kOwn, 8, 128, 8, 128};
inline constexpr Quantization kInt4{Quantization::Method::kOwn, 4, 32, 8, 128};

/// "none", "GPTQ 4 bit, groups of 128", "xcomposer 4 bit, groups of 32, output 8 bit, groups of
/// 128".
std::string ToString(const Quantization& quantization);

/// What quantize_config.json, or quantization_config of config.json, says.
struct DeclaredQuantization {
  std::string file;    ///< where it stood
  std::string method;  ///< "gptq", "awq", "xcomposer"; empty where the file does not say
  std::optional<int64_t> bits;
  std::optional<int64_t> group_size;
  bool head = false;  ///< "lm_head": the output matrix is quantised too
  /// Where "dynamic" has numbers for it that are not the layers'.
  std::optional<int64_t> head_bits = std::nullopt;
  std::optional<int64_t> head_group_size = std::nullopt;
};

/// "quant_method" of what this program quantised.
inline constexpr const char* kOwnMethod = "xcomposer";

/// The module whose weight is the output matrix: what "dynamic" and the tensors call it.
inline constexpr const char* kHeadModule = "output";

/// Reads such an object. Throws kConfig, naming all of them, for values that are not read: another
/// method, order by activation (desc_act), a format of the zeros other than GPTQ's first, an AWQ
/// version other than GEMM, AWQ without zeros, group sizes that no kernel takes. Of "dynamic",
/// which gives single modules numbers of their own, the output matrix is read.
DeclaredQuantization ParseQuantization(const std::string& text, const std::string& file);

/// What a checkpoint is. The tensors decide where `headers` are given: names and shapes of layer
/// 0's wqkv and of the output matrix; `declared` completes them, and without headers is all there
/// is. `in`: inputs of both.
/// Throws kConfig where tensors and declaration differ in bits, kCheckpoint for bits and groups
/// that are not read. What is declared and not there is added to `notes`.
Quantization SettleQuantization(const WeightHeaders* headers,
                                const std::optional<DeclaredQuantization>& declared, int64_t in,
                                std::vector<std::string>& notes);

}  // namespace xcomposer
