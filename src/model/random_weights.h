#pragma once

#include "model/weight_scope.h"

namespace xcomposer {

/// Weights for tests and measurements without a checkpoint: bfloat16, the same for the same seed
/// and name whichever stage asks and in whichever order. Norm weights lie around 1, the rest is
/// scaled so that activations keep their size.
class RandomWeights final : public WeightSource {
 public:
  explicit RandomWeights(uint64_t seed, const Quantization& stored = {})
      : WeightSource(stored), seed_(seed) {}

 private:
  at::Tensor Load(const std::string& name, at::IntArrayRef shape) override;
  /// Any code and any zero; scales of a size that keeps activations theirs. No g_idx, no bias.
  std::optional<at::Tensor> LoadPart(const std::string& name, at::ScalarType type,
                                     at::IntArrayRef shape) override;

  uint64_t seed_;
};

/// Weights without values, for a dry run: shapes are checked, nothing is computed or stored.
class MetaWeights final : public WeightSource {
 public:
  explicit MetaWeights(const Quantization& stored = {}) : WeightSource(stored) {}

 private:
  at::Tensor Load(const std::string& name, at::IntArrayRef shape) override;
  std::optional<at::Tensor> LoadPart(const std::string& name, at::ScalarType type,
                                     at::IntArrayRef shape) override;
};

}  // namespace xcomposer
