#include "model/plora_linear.h"

#include <ATen/ops/empty.h>

#include "base/check.h"
#include "ops/ops.h"

namespace xcomposer {

PloraMemory PloraMemory::Behind(const at::Tensor& joined, const at::Tensor& a) {
  const int64_t in = a.size(1);
  const int64_t rank = a.size(0);
  return {joined, joined.narrow(1, 0, in), a, joined.narrow(1, in, rank)};
}

PloraMemory PloraMemory::Before(const at::Tensor& joined, const at::Tensor& a) {
  const int64_t in = a.size(1);
  const int64_t rank = a.size(0);
  return {joined, joined.narrow(1, rank, in), a, joined.narrow(1, 0, rank)};
}

void LinearOfRows_(const at::Tensor& y, const at::Tensor& x, const at::Tensor& weight,
                   const RowSpans& rows, double scale) {
  for (size_t i = 0; i < rows.size(); i += 2) {
    const int64_t first = rows[i];
    while (i + 2 < rows.size() && rows[i + 2] == rows[i + 1]) i += 2;  // spans that touch are one
    const int64_t count = rows[i + 1] - first;
    at::Tensor part = y.narrow(0, first, count);
    ops::LinearInto_(part, x.narrow(0, first, count), weight, scale);
  }
}

bool JoinsPlora(const WeightScope& scope, int64_t rank) {
  constexpr int64_t kLine = 64;  // numbers of 16 bits in 128 bytes
  return scope.stacks() && rank > 0 && rank % kLine == 0;
}

PloraLinear::PloraLinear(const ModelConfig& config, DecoderLinear which, const WeightScope& scope,
                         int64_t out, int64_t in)
    : sft_(TakeLowRank(scope, "lora_sft", config.adapters.sft, out, in)),
      dpo_(TakeLowRank(scope, "lora_dpo", config.adapters.dpo, out, in)),
      web_(TakeLowRank(scope, "lora_web", config.adapters.web, out, in)),
      plora_scale_(config.plora_of(which).scale) {
  const int64_t rank = config.plora_of(which).rank;
  if (JoinsPlora(scope, rank)) {
    Take(scope, PloraMemory::Behind(scope.Allocate({out, in + rank}), scope.Allocate({rank, in})));
  } else {
    weight_ = scope.TakeLinear(out, in);
    plora_ = TakeLowRank(scope, "Plora", rank, out, in);
  }
}

PloraLinear::PloraLinear(const ModelConfig& config, DecoderLinear which, const WeightScope& scope,
                         const PloraMemory& memory)
    : plora_scale_(config.plora_of(which).scale) {
  const int64_t out = memory.weight.size(0);
  const int64_t in = memory.weight.size(1);
  sft_ = TakeLowRank(scope, "lora_sft", config.adapters.sft, out, in);
  dpo_ = TakeLowRank(scope, "lora_dpo", config.adapters.dpo, out, in);
  web_ = TakeLowRank(scope, "lora_web", config.adapters.web, out, in);
  Take(scope, memory);
}

void PloraLinear::Take(const WeightScope& scope, const PloraMemory& memory) {
  scope.TakeInto(memory.weight, "weight");
  scope.TakeInto(memory.a, "Plora_A.weight");
  scope.TakeInto(memory.b, "Plora_B.weight");
  weight_ = ops::LinearWeight::Dense(memory.weight);
  plora_ = LowRank{memory.a, memory.b};
  joined_ = memory.joined;
}

std::optional<PloraLinear::LowRank> PloraLinear::TakeLowRank(const WeightScope& scope,
                                                             const std::string& name, int64_t rank,
                                                             int64_t out, int64_t in) {
  if (rank == 0) return std::nullopt;
  return LowRank{scope.Take(name + "_A.weight", {rank, in}),
                 scope.Take(name + "_B.weight", {out, rank})};
}

void PloraLinear::AddRows(at::Tensor& y, const at::Tensor& x, const std::optional<LowRank>& factors,
                          const RowSpans& rows, double scale) {
  if (rows.empty()) return;
  Require(factors.has_value(), ErrorKind::kRequest,
          "the request chose an adapter that this checkpoint does not have");
  ops::LinearAddRows_(y, x, factors->a, factors->b, rows, scale);
}

at::Tensor PloraLinear::Forward(const at::Tensor& x, const BatchTensors& batch) const {
  at::Tensor y = ops::Linear(x, weight_);  // (T, out)
  AddLowRank(y, x, batch);
  return y;
}

at::Tensor PloraLinear::Forward(const RoomyRows& x, const BatchTensors& batch) const {
  const at::Tensor rows = x.x();
  at::Tensor y = at::empty({rows.size(0), weight_.outputs()}, rows.options());  // (T, out)
  ForwardInto(y, x, batch);
  return y;
}

void PloraLinear::ForwardInto(at::Tensor& y, const RoomyRows& x, const BatchTensors& batch) const {
  if (joined_.defined()) {
    ops::LinearInto_(y, WithLowRank(x, batch), joined_);
    return AddAdapters(y, x.x(), batch);
  }
  ops::LinearInto_(y, x.x(), weight_.data);
  AddLowRank(y, x.x(), batch);
}

void PloraLinear::AddTo(at::Tensor& y, const at::Tensor& x, const BatchTensors& batch) const {
  ops::LinearAdd_(y, x, weight_);
  AddLowRank(y, x, batch);
}

void PloraLinear::AddTo(at::Tensor& y, const RoomyRows& x, const BatchTensors& batch) const {
  if (!joined_.defined()) return AddTo(y, x.x(), batch);
  ops::LinearAdd_(y, WithLowRank(x, batch), ops::LinearWeight::Dense(joined_));
  AddAdapters(y, x.x(), batch);
}

at::Tensor PloraLinear::WithLowRank(const RoomyRows& x, const BatchTensors& batch) const {
  const int64_t in = plora_->a.size(1);
  const at::Tensor behind = x.Columns(in, room());  // (T, R)
  LinearOfRows_(behind, x.x(), plora_->a, batch.picture_rows, plora_scale_);
  return x.Columns(0, in + room());
}

void PloraLinear::AddAdapters(at::Tensor& y, const at::Tensor& x, const BatchTensors& batch) const {
  AddRows(y, x, web_, batch.web_rows, 1.0);    // y += Bw (Aw x)
  AddRows(y, x, sft_, batch.write_rows, 1.0);  // y += Bs (As x)
  AddRows(y, x, dpo_, batch.write_rows, 1.0);  // y += Bd (Ad x)
}

void PloraLinear::AddLowRank(at::Tensor& y, const at::Tensor& x, const BatchTensors& batch) const {
  AddAdapters(y, x, batch);
  AddRows(y, x, plora_, batch.picture_rows, plora_scale_);
}

}  // namespace xcomposer
