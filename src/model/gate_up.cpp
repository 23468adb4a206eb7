#include "model/gate_up.h"

#include <algorithm>

#include "ops/ops.h"

namespace xcomposer {

GateUp::Pair::Pair(const WeightScope& scope, int64_t rank, int64_t out, int64_t in)
    : a(scope.Allocate({2, rank, in})), joined(scope.Allocate({2, out, rank + in})) {}

std::optional<GateUp::Pair> GateUp::MakePair(const ModelConfig& config, const WeightScope& scope) {
  const PloraShape& first = config.plora_of(DecoderLinear::kW1);
  const PloraShape& second = config.plora_of(DecoderLinear::kW3);
  if (first.rank != second.rank || first.scale != second.scale) return std::nullopt;
  if (!JoinsPlora(scope, first.rank)) return std::nullopt;
  return Pair(scope, first.rank, config.intermediate_size, config.hidden_size);
}

PloraLinear GateUp::Take(const ModelConfig& config, DecoderLinear which, const WeightScope& scope,
                         const std::optional<PloraMemory>& memory) {
  if (memory) return {config, which, scope, *memory};
  return {config, which, scope, config.intermediate_size, config.hidden_size};
}

GateUp::GateUp(const ModelConfig& config, const WeightScope& scope)
    : pair_(MakePair(config, scope)),
      w1_(Take(config, DecoderLinear::kW1, scope.Sub("w1"),
               pair_ ? std::optional(pair_->OfW1()) : std::nullopt)),
      w3_(Take(config, DecoderLinear::kW3, scope.Sub("w3"),
               pair_ ? std::optional(pair_->OfW3()) : std::nullopt)),
      scale_(config.plora_of(DecoderLinear::kW1).scale) {}

int64_t GateUp::room_before() const { return pair_ ? w1_.room() : 0; }

int64_t GateUp::room_behind() const {
  return pair_ ? w3_.room() : std::max(w1_.room(), w3_.room());
}

at::Tensor GateUp::Forward(const at::Tensor& x, const BatchTensors& batch) const {
  at::Tensor gate = w1_.Forward(x, batch);  // (T, F)
  ops::SiluMul_(gate, w3_.Forward(x, batch));
  return gate;
}

void GateUp::ForwardInto(const AdapterRooms& rooms, const BatchTensors& batch) const {
  at::Tensor gate = rooms.wide.x();  // (T, F)
  at::Tensor up = rooms.up();        // (T, F)
  if (pair_) {
    ForwardPair(rooms, batch);
    w1_.AddAdapters(gate, rooms.narrow.x(), batch);
    w3_.AddAdapters(up, rooms.narrow.x(), batch);
  } else {
    w1_.ForwardInto(gate, rooms.narrow, batch);
    w3_.ForwardInto(up, rooms.narrow, batch);
  }
  ops::SiluMul_(gate, up);
}

void GateUp::ForwardPair(const AdapterRooms& rooms, const BatchTensors& batch) const {
  const RoomyRows& rows = rooms.narrow;
  const int64_t rank = w1_.room();
  const int64_t width = rows.widths().columns;
  const at::Tensor x = rows.x().unsqueeze(1).expand({-1, 2, -1});   // (T, 2, C), the same twice
  LinearOfRows_(rows.Pair(-rank, rank, rank + width), x, pair_->a,  // (T, 2, R)
                batch.picture_rows, scale_);
  at::Tensor both = rooms.gate_and_up();
  ops::LinearInto_(both, rows.Pair(-rank, rank + width, rank), pair_->joined);
}

}  // namespace xcomposer
