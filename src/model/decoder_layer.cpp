#include "model/decoder_layer.h"

#include "ops/ops.h"

namespace xcomposer {

DecoderLayer::DecoderLayer(const ModelConfig& config, const WeightScope& scope)
    : eps_(config.rms_norm_eps),
      attention_norm_(scope.Take("attention_norm.weight", {config.hidden_size})),
      wqkv_(config, DecoderLinear::kWqkv, scope.Sub("attention.wqkv"), config.wqkv_rows(),
            config.hidden_size),
      wo_(config, DecoderLinear::kWo, scope.Sub("attention.wo"), config.hidden_size,
          config.hidden_size),
      ffn_norm_(scope.Take("ffn_norm.weight", {config.hidden_size})),
      w1_(config, DecoderLinear::kW1, scope.Sub("feed_forward.w1"), config.intermediate_size,
          config.hidden_size),
      w3_(config, DecoderLinear::kW3, scope.Sub("feed_forward.w3"), config.intermediate_size,
          config.hidden_size),
      w2_(config, DecoderLinear::kW2, scope.Sub("feed_forward.w2"), config.hidden_size,
          config.intermediate_size) {}

// Letters: T rows, C hidden size, H query heads, G key-value heads, D head dimension, F inner
// width.
void DecoderLayer::Forward(at::Tensor& hidden, const BatchTensors& batch, at::Tensor& keys,
                           at::Tensor& values) const {
  {
    const at::Tensor mixed = ops::PagedAttention(Queries(hidden, batch, keys, values), keys, values,
                                                 batch.sequences);  // (T, H, D)
    wo_.AddTo(hidden, mixed.flatten(1), batch);                     // (T, C)
  }  // not kept while the wider rows below are alive
  w2_.AddTo(hidden, GateUp(hidden, batch), batch);  // (T, C)
}

at::Tensor DecoderLayer::Queries(const at::Tensor& hidden, const BatchTensors& batch,
                                 at::Tensor& keys, at::Tensor& values) const {
  if (batch.base_only()) {
    return ops::NormQkvRope({.hidden = hidden,
                             .norm = attention_norm_,
                             .eps = eps_,
                             .wqkv = wqkv_.base(),
                             .cos = batch.cos,
                             .sin = batch.sin,
                             .slots = batch.slots},
                            keys, values);  // (T, H, D)
  }
  const at::Tensor x = ops::RmsNorm(hidden, attention_norm_, eps_);          // (T, C)
  at::Tensor qkv = wqkv_.Forward(x, batch);                                  // (T, G (H/G + 2) D)
  return ops::RopeKv(qkv, batch.cos, batch.sin, keys, values, batch.slots);  // (T, H, D)
}

/// silu(w1 x) * w3 x
at::Tensor DecoderLayer::GateUp(const at::Tensor& hidden, const BatchTensors& batch) const {
  if (batch.base_only()) {
    return ops::NormGateUp(hidden, ffn_norm_, eps_, w1_.base(), w3_.base());  // (T, F)
  }
  const at::Tensor x = ops::RmsNorm(hidden, ffn_norm_, eps_);  // (T, C)
  at::Tensor gate = w1_.Forward(x, batch);                     // (T, F)
  ops::SiluMul_(gate, w3_.Forward(x, batch));
  return gate;
}

}  // namespace xcomposer
