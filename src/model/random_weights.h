#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>

#include "model/weight_scope.h"

namespace xcomposer {

/// Weights for tests and measurements without a checkpoint, the same for the same seed, name and
/// type whichever stage asks and in whichever order. Norm weights lie around 1, the rest is scaled
/// so that activations keep their size.
class RandomWeights final : public WeightSource {
 public:
  /// `type` (bfloat16, float16 or float32): of all tensors but those of quantised linears.
  explicit RandomWeights(uint64_t seed, const Quantization& stored = {},
                         at::ScalarType type = at::kBFloat16);

  /// Called after each tensor, with its bytes; what it throws ends the loading.
  void OnDrawn(std::function<void(int64_t bytes, const std::string& name)> listener) {
    on_drawn_ = std::move(listener);
  }

 private:
  at::Tensor Load(const std::string& name, at::IntArrayRef shape) override;
  /// Any code, own zeros in the middle and any other zero; scales of a size that keeps activations
  /// theirs. No g_idx, no bias.
  std::optional<at::Tensor> LoadPart(const std::string& name, at::ScalarType type,
                                     at::IntArrayRef shape) override;

  uint64_t seed_;
  at::ScalarType type_;
  std::function<void(int64_t, const std::string&)> on_drawn_;
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
