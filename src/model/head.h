#pragma once

#include <ATen/core/Tensor.h>

#include "config/model_config.h"
#include "model/weight_scope.h"
#include "ops/linear_weight.h"

namespace xcomposer {

/// The final norm and the output linear.
class Head {
 public:
  /// `root` is the scope of the whole checkpoint.
  Head(const ModelConfig& config, const WeightScope& root);

  /// hidden (R, C) -> (R, C), for those who want to look at it.
  at::Tensor Norm(const at::Tensor& hidden) const;

  /// Norm and output: hidden (R, C) -> scores (R, V) float32.
  void Score(at::Tensor& scores, const at::Tensor& hidden) const;

 private:
  double eps_;
  at::Tensor norm_;           // (C)
  ops::LinearWeight output_;  // (V, C)
};

}  // namespace xcomposer
