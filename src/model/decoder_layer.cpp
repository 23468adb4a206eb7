#include "model/decoder_layer.h"

#include <algorithm>

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
      gate_up_(config, scope.Sub("feed_forward")),
      w2_(config, DecoderLinear::kW2, scope.Sub("feed_forward.w2"), config.hidden_size,
          config.intermediate_size) {}

// Letters: T rows, C hidden size, H query heads, G key-value heads, D head dimension, F inner
// width.
void DecoderLayer::Forward(at::Tensor& hidden, const BatchTensors& batch, at::Tensor& keys,
                           at::Tensor& values) const {
  if (batch.rooms) return ForwardInRooms(hidden, batch, keys, values);
  {
    const at::Tensor mixed = ops::PagedAttention(Queries(hidden, batch, keys, values), keys, values,
                                                 batch.sequences);  // (T, H, D)
    wo_.AddTo(hidden, mixed.flatten(1), batch);                     // (T, C)
  }                                                // not kept while the wider rows below are alive
  w2_.AddTo(hidden, Inner(hidden, batch), batch);  // (T, C)
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
at::Tensor DecoderLayer::Inner(const at::Tensor& hidden, const BatchTensors& batch) const {
  if (batch.base_only()) {
    return ops::NormGateUp(hidden, ffn_norm_, eps_, gate_up_.w1(), gate_up_.w3());  // (T, F)
  }
  return gate_up_.Forward(ops::RmsNorm(hidden, ffn_norm_, eps_), batch);  // (T, F)
}

/// The same steps, whose rows lie where the next linear's adapter has room beside them.
void DecoderLayer::ForwardInRooms(at::Tensor& hidden, const BatchTensors& batch, at::Tensor& keys,
                                  at::Tensor& values) const {
  const AdapterRooms& rooms = *batch.rooms;
  at::Tensor x = rooms.narrow.x();  // (T, C)
  ops::RmsNormInto_(x, hidden, attention_norm_, eps_);
  {
    const at::Tensor qkv = wqkv_.Forward(rooms.narrow, batch);  // (T, G (H/G + 2) D)
    const at::Tensor q =
        ops::RopeKv(qkv, batch.cos, batch.sin, keys, values, batch.slots);  // (T, H, D)
    ops::PagedAttentionInto_(x, q, keys, values, batch.sequences);
  }
  wo_.AddTo(hidden, rooms.narrow, batch);
  ops::RmsNormInto_(x, hidden, ffn_norm_, eps_);
  gate_up_.ForwardInto(rooms, batch);
  w2_.AddTo(hidden, rooms.wide, batch);
}

std::optional<AdapterRooms> DecoderLayer::MakeRooms(int64_t rows,
                                                    const at::TensorOptions& options) const {
  const int64_t before = gate_up_.room_before();
  const int64_t behind = std::max({wqkv_.room(), wo_.room(), gate_up_.room_behind()});
  if (before + behind + w2_.room() == 0) return std::nullopt;
  const int64_t inner = gate_up_.w1().outputs();
  return AdapterRooms{
      RoomyRows(rows, {.before = before, .columns = attention_norm_.size(0), .behind = behind},
                options),
      RoomyRows(rows, {.columns = inner, .behind = w2_.room() + inner}, options)};
}

}  // namespace xcomposer
