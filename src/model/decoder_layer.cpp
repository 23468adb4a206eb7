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
  at::Tensor x = ops::RmsNorm(hidden, attention_norm_, eps_);  // (T, C)
  ops::Add_(hidden, Attention(x, batch, keys, values));
  x = ops::RmsNorm(hidden, ffn_norm_, eps_);  // (T, C)
  ops::Add_(hidden, FeedForward(x, batch));
}

at::Tensor DecoderLayer::Attention(const at::Tensor& x, const BatchTensors& batch, at::Tensor& keys,
                                   at::Tensor& values) const {
  at::Tensor qkv = wqkv_.Forward(x, batch);  // (T, G (H/G + 2) D)
  at::Tensor q = ops::RopeKv(qkv, batch.cos, batch.sin, keys, values, batch.slots);  // (T, H, D)
  at::Tensor mixed = ops::PagedAttention(q, keys, values, batch.sequences);          // (T, H, D)
  return wo_.Forward(mixed.flatten(1), batch);                                       // (T, C)
}

at::Tensor DecoderLayer::FeedForward(const at::Tensor& x, const BatchTensors& batch) const {
  at::Tensor gate = w1_.Forward(x, batch);     // (T, F)
  ops::SiluMul_(gate, w3_.Forward(x, batch));  // silu(w1 x) * w3 x
  return w2_.Forward(gate, batch);             // (T, C)
}

}  // namespace xcomposer
