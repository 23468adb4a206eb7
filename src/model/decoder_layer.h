#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "config/model_config.h"
#include "model/batch_tensors.h"
#include "model/gate_up.h"
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

  /// Memory for a batch of so many rows with pictures, for all layers of the same model; none where
  /// PLoRA's factors do not lie beside the weights. `options`: of activations.
  std::optional<AdapterRooms> MakeRooms(int64_t rows, const at::TensorOptions& options) const;

 private:
  void ForwardInRooms(at::Tensor& hidden, const BatchTensors& batch, at::Tensor& keys,
                      at::Tensor& values) const;
  at::Tensor Queries(const at::Tensor& hidden, const BatchTensors& batch, at::Tensor& keys,
                     at::Tensor& values) const;
  at::Tensor Inner(const at::Tensor& hidden, const BatchTensors& batch) const;

  double eps_;
  at::Tensor attention_norm_;  // (C)
  PloraLinear wqkv_;
  PloraLinear wo_;
  at::Tensor ffn_norm_;  // (C)
  GateUp gate_up_;
  PloraLinear w2_;
};

}  // namespace xcomposer
