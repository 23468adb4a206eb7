#pragma once

#include <ATen/core/Tensor.h>

#include "config/model_config.h"
#include "model/batch_tensors.h"
#include "model/plora_linear.h"
#include "model/weight_scope.h"

namespace xcomposer {

/// One layer of the decoder (model specification 7). Const after construction.
class DecoderLayer {
 public:
  /// `scope` is model.layers.<n>.
  DecoderLayer(const ModelConfig& config, const WeightScope& scope);

  /// hidden (T, C) is changed in place; the rows' keys and values go into this layer's cache.
  void Forward(at::Tensor& hidden, const BatchTensors& batch, at::Tensor& keys,
               at::Tensor& values) const;

 private:
  at::Tensor Queries(const at::Tensor& hidden, const BatchTensors& batch, at::Tensor& keys,
                     at::Tensor& values) const;
  at::Tensor GateUp(const at::Tensor& hidden, const BatchTensors& batch) const;

  double eps_;
  at::Tensor attention_norm_;  // (C)
  PloraLinear wqkv_;
  PloraLinear wo_;
  at::Tensor ffn_norm_;  // (C)
  PloraLinear w1_;
  PloraLinear w3_;
  PloraLinear w2_;
};

}  // namespace xcomposer
