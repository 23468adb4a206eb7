#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "config/model_config.h"
#include "model/batch_tensors.h"
#include "model/weight_scope.h"
#include "ops/linear_weight.h"

namespace xcomposer {

/// A linear of the decoder: the base for every row, adapters of 2.5 for the rows of the requests
/// that chose them, PLoRA for picture rows (model specification 5).
class PloraLinear {
 public:
  /// Takes the weight in its packing, Plora_A/B and, where the model has them, lora_sft/dpo/web_A/B
  /// from `scope`.
  PloraLinear(const ModelConfig& config, DecoderLinear which, const WeightScope& scope, int64_t out,
              int64_t in);

  /// x (T, in) -> (T, out).
  at::Tensor Forward(const at::Tensor& x, const BatchTensors& batch) const;

  /// y += what Forward gives. y (T, out) float32: the residual stream.
  void AddTo(at::Tensor& y, const at::Tensor& x, const BatchTensors& batch) const;

  /// All that a batch with base_only() is multiplied with.
  const ops::LinearWeight& base() const { return weight_; }

 private:
  struct LowRank {
    at::Tensor a;  // (R, in)
    at::Tensor b;  // (out, R)
  };
  static std::optional<LowRank> TakeLowRank(const WeightScope& scope, const std::string& name,
                                            int64_t rank, int64_t out, int64_t in);
  void AddLowRank(at::Tensor& y, const at::Tensor& x, const BatchTensors& batch) const;
  static void AddRows(at::Tensor& y, const at::Tensor& x, const std::optional<LowRank>& factors,
                      const RowSpans& rows, double scale);

  ops::LinearWeight weight_;  // (out, in)
  std::optional<LowRank> plora_;
  std::optional<LowRank> sft_;
  std::optional<LowRank> dpo_;
  std::optional<LowRank> web_;
  double plora_scale_;
};

}  // namespace xcomposer
