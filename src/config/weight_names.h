#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "config/model_config.h"

/// The one table of weight names and shapes (model specification 2.1).
namespace xcomposer {

/// The part of the model a tensor belongs to; placement moves whole parts.
enum class Part { kVit, kVisionProj, kSeparators, kTokEmbeddings, kLayer, kNorm, kOutput };

/// What a tensor's numbers may be.
enum class NumberKind {
  kFloat,    ///< BF16, F16 or F32
  kFloat16,  ///< scales of a quantised linear
  kInt32,    ///< words and indices of a quantised linear
};

struct WeightSpec {
  std::string name;
  std::vector<int64_t> shape;
  Part part = Part::kLayer;
  int64_t layer = -1;  ///< of kLayer
  NumberKind numbers = NumberKind::kFloat;
  bool optional = false;  ///< GPTQ's g_idx and bias: read where they are there
  /// A linear of the decoder, without adapters, or the output matrix: what formats of weights pack.
  bool linear = false;
  /// Of a linear whose checkpoint has any in 12 bits: whether it is one of them.
  std::optional<bool> in_12_bits = std::nullopt;
};

/// The tensors that a checkpoint may have in place of a linear's weight: the same numbers in 12
/// bits each (docs/quantisation.md).
struct Bf12Names {
  std::string words;     ///< int32 (N / 4, K / 128, 192)
  std::string scales;    ///< float32 (N)
  std::string outliers;  ///< int32, N / 4 + 1 at least
};

/// Outputs and inputs that lie side by side: such matrices have multiples of them.
inline constexpr int64_t kBf12Outputs = 4;
inline constexpr int64_t kBf12Inputs = 128;
/// Words of a block of so many.
inline constexpr int64_t kBf12BlockWords = kBf12Outputs * kBf12Inputs * 12 / 32;

/// Of the weight "….weight".
Bf12Names Bf12NamesOf(const std::string& weight);

/// The weight that a tensor of this name would be a part of; nothing for other names.
std::optional<std::string> WeightOfBf12(const std::string& part);

/// The weights of linears that a checkpoint has so: their words are there, they are not.
std::set<std::string> WeightsIn12Bits(const ModelConfig& config, const WeightHeaders& headers);

/// Every tensor that a checkpoint with this configuration holds, quantised ones by their parts.
/// Bf12Names may stand for any that is `linear`.
std::vector<WeightSpec> WeightTable(const ModelConfig& config);

/// Tensors that some files hold and no computation reads: post_layernorm, position ids, rotary
/// buffers of re-saved ones, video_mem_proj of 2.5's OmniLive sibling, which its chat does not use.
bool IsIgnoredWeight(const std::string& name);

/// What separates a checkpoint from the table; each list names tensors, mismatched also what was
/// found and expected.
struct WeightDifferences {
  std::vector<std::string> missing;
  /// Of a module that the model computes with, or of layers beyond its own: adapters and packed
  /// words that would be passed over.
  std::vector<std::string> unexpected;
  std::vector<std::string> mismatched;
  std::vector<std::string> unused;  ///< beside the model: nothing that is computed lacks them
  bool none() const { return missing.empty() && unexpected.empty() && mismatched.empty(); }
};

WeightDifferences CompareWeights(const ModelConfig& config, const WeightHeaders& headers);

/// Gives the tensors beside the model. Throws one kCheckpoint error that lists all missing,
/// unexpected and mismatched ones.
std::vector<std::string> CheckWeights(const ModelConfig& config, const WeightHeaders& headers);

/// One line about tensors beside the model: how many, and the names of the first.
std::string UnusedNote(const std::vector<std::string>& unused);

/// Sum over the table of the same model without quantisation.
int64_t ParameterCount(const ModelConfig& config);

}  // namespace xcomposer
