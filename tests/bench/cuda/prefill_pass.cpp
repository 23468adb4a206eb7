#include "bench/cuda/prefill_pass.h"

#include <numeric>

#include "kernels/cuda/attention_prefill.h"
#include "kernels/cuda/decode_linear.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/norm.h"

namespace xcomposer::cuda {

PrefillPass::PrefillPass(const Decoder& decoder, const KvCache& cache, int64_t sequence,
                         const std::vector<int32_t>& ids, const std::vector<RowSpan>& spans,
                         DeviceMemory& memory)
    : decoder_(decoder),
      cache_(cache),
      sequence_(sequence),
      rows_(static_cast<int64_t>(ids.size())),
      spans_(spans),
      rank_(spans.empty() ? 0 : decoder.shape.adapter_rank) {
  const DecoderShape& s = decoder.shape;
  std::vector<int32_t> positions(ids.size());
  std::iota(positions.begin(), positions.end(), 0);
  std::vector<int64_t> slots;
  for (const int32_t position : positions) slots.push_back(cache.Slot(sequence, position));
  ids_ = memory.Written(ids);
  positions_ = memory.Written(positions);
  rope_tables_ = memory.Written(std::vector<int32_t>(ids.size(), 0));
  slots_ = memory.Written(slots);
  first_row_ = memory.Written(std::vector<int32_t>{0});
  row_count_ = memory.Written(std::vector<int32_t>{static_cast<int32_t>(rows_)});
  first_position_ = memory.Written(std::vector<int32_t>{0});
  cos_ = memory.Variable<float>(rows_ * s.heads.head_dim / 2);
  sin_ = memory.Variable<float>(rows_ * s.heads.head_dim / 2);
  hidden_ = memory.Variable<float>(rows_ * s.hidden);
  normed_ = RoomFor(rank_, s.hidden, rank_, memory);
  qkv_ = memory.Stored(rows_ * s.qkv());
  q_ = memory.Stored(rows_ * s.mixed());
  mixed_ = RoomFor(0, s.mixed(), rank_, memory);
  inner_ = RoomFor(0, s.inner, rank_ + s.inner, memory);
  logits_ = memory.Variable<float>(s.vocab);
  options_ = memory.Written(std::vector<SamplingOptions>(1));
  seen_ = memory.Written(std::vector<uint32_t>(static_cast<size_t>((s.vocab + 31) / 32)));
  steps_ = memory.Written(std::vector<int64_t>(1));
  sample_partial_ = memory.Variable<uint64_t>(SamplePartialWords(1, s.vocab));
  sample_counters_ = memory.Written(std::vector<int32_t>(1));
  id_ = memory.Variable<int32_t>(1);
}

PrefillPass::Rows PrefillPass::RoomFor(int64_t before, int64_t columns, int64_t behind,
                                       DeviceMemory& memory) const {
  const int64_t stride = before + columns + behind;
  const std::vector<uint16_t> zeros(static_cast<size_t>(rows_ * stride));
  return {.x = Behind(memory.Written(zeros), before), .stride = stride};
}

double PrefillPass::flops() const {
  const DecoderShape& s = decoder_.shape;
  const auto rows = static_cast<double>(rows_);
  double pictures = 0;
  for (const RowSpan& span : spans_) pictures += static_cast<double>(span.end - span.begin);
  const double attention = attention_flops() * static_cast<double>(s.layers);
  const double head = 2 * static_cast<double>(s.vocab) * static_cast<double>(s.hidden);
  return rows * s.row_flops() + pictures * s.adapter_row_flops() + attention + head;
}

double PrefillPass::attention_flops() const {
  const auto rows = static_cast<double>(rows_);
  const double pairs = rows * (rows + 1) / 2;  // of row and key that it sees
  return 4 * pairs * static_cast<double>(decoder_.shape.mixed());
}

void PrefillPass::Enqueue(const void* features, LinearPlans& plans, const Context& context) const {
  const DecoderShape& s = decoder_.shape;
  Require(Embedding({.ids = ids_,
                     .table = decoder_.tok_embeddings,
                     .out = hidden_,
                     .rows = rows_,
                     .columns = s.hidden,
                     .vocab = s.vocab},
                    context),
          "Embedding");
  int64_t taken = 0;
  for (const RowSpan& span : spans_) {
    const int64_t count = (span.end - span.begin) * s.hidden;
    Require(
        Add({.y = hidden_ + span.begin * s.hidden, .x = Behind(features, taken), .count = count},
            context),
        "Add (features)");
    taken += count;
  }
  Require(RopeTable({.inverse_frequencies = decoder_.inverse_frequencies,
                     .tables = rope_tables_,
                     .positions = positions_,
                     .cos = cos_,
                     .sin = sin_,
                     .rows = rows_,
                     .half = s.heads.head_dim / 2},
                    context),
          "RopeTable");
  for (int64_t layer = 0; layer < s.layers; ++layer) EnqueueLayer(layer, plans, context);
  Require(DecodeLogits({.x = {hidden_ + (rows_ - 1) * s.hidden, decoder_.norm, s.eps},
                        .weight = decoder_.output,
                        .logits = logits_},
                       context),
          "DecodeLogits");
  Require(Sample({.logits = logits_,
                  .rows = 1,
                  .vocab = s.vocab,
                  .options = options_,
                  .seen = seen_,
                  .steps = steps_,
                  .ids = id_,
                  .partial = sample_partial_,
                  .counters = sample_counters_},
                 context),
          "Sample");
}

void PrefillPass::EnqueueLayer(int64_t layer, LinearPlans& plans, const Context& context) const {
  const DecoderShape& s = decoder_.shape;
  const DecoderLayer& weights = decoder_.layers[static_cast<size_t>(layer)];
  Norm(weights.attention_norm, context);
  Project(weights.wqkv, normed_, qkv_, LinearResult::kStored, plans, context);
  Require(RopeKv({.qkv = qkv_,
                  .shape = s.heads,
                  .cos = cos_,
                  .sin = sin_,
                  .slots = slots_,
                  .q = q_,
                  .k_cache = cache_.keys(layer),
                  .v_cache = cache_.values(layer),
                  .rows = rows_},
                 context),
          "RopeKv");
  Attention(layer, context);
  Project(weights.wo, mixed_, hidden_, LinearResult::kAddFloat, plans, context);

  Norm(weights.ffn_norm, context);
  GateUp(weights, plans, context);
  Project(weights.w2, inner_, hidden_, LinearResult::kAddFloat, plans, context);
}

void PrefillPass::Attention(int64_t layer, const Context& context) const {
  PagedCache cache = cache_.Layer(layer);
  cache.block_tables += sequence_ * cache.table_stride;
  Require(PrefillAttention({.q = q_,
                            .cache = cache,
                            .first_rows = first_row_,
                            .row_counts = row_count_,
                            .positions = first_position_,
                            .sequences = 1,
                            .rows = rows_,
                            .shape = decoder_.shape.heads,
                            .out = mixed_.x,
                            .out_stride = mixed_.stride},
                           context),
          "PrefillAttention");
}

void PrefillPass::Norm(const void* weight, const Context& context) const {
  const DecoderShape& s = decoder_.shape;
  Require(RmsNorm({.x = hidden_,
                   .weight = weight,
                   .out = normed_.x,
                   .out_stride = normed_.stride,
                   .rows = rows_,
                   .columns = s.hidden,
                   .eps = s.eps},
                  context),
          "RmsNorm");
}

void PrefillPass::Project(const AdaptedLinear& linear, Rows x, void* y, LinearResult result,
                          LinearPlans& plans, const Context& context) const {
  const DecoderShape& s = decoder_.shape;
  Require(LinearOfSpans({.x = x.x,
                         .x_stride = x.stride,
                         .weight = linear.a,
                         .y = Behind(x.x, linear.weight.columns),
                         .y_stride = x.stride,
                         .rows = rows_,
                         .scale = s.adapter_scale},
                        spans_, plans, context),
          "LinearOfSpans");
  const WeightMatrix& weight = spans_.empty() ? linear.weight : linear.joined;
  Require(Linear({.x = x.x,
                  .x_stride = x.stride,
                  .weight = weight,
                  .y = y,
                  .y_stride = weight.rows,
                  .rows = rows_,
                  .result = result},
                 plans, context),
          "Linear");
}

/// w1's part of the adapters comes before x and w3's behind it, so that both have theirs beside it.
void PrefillPass::GateUp(const DecoderLayer& weights, LinearPlans& plans,
                         const Context& context) const {
  const DecoderShape& s = decoder_.shape;
  const AdaptedLinear& w1 = weights.w1;
  const AdaptedLinear& w3 = weights.w3;
  void* first = Behind(normed_.x, -rank_);
  Require(LinearOfSpans({.x = normed_.x,
                         .x_stride = normed_.stride,
                         .weight = w1.a,
                         .y = first,
                         .y_stride = normed_.stride,
                         .rows = rows_,
                         .scale = s.adapter_scale,
                         .batch = {.count = 2,
                                   .weight_distance = DecoderLayer::Apart(w1.a, w3.a),
                                   .y_distance = rank_ + s.hidden}},
                        spans_, plans, context),
          "LinearOfSpans (w1, w3)");
  const WeightMatrix& weight = spans_.empty() ? w1.weight : w1.joined;
  const WeightMatrix& next = spans_.empty() ? w3.weight : w3.joined;
  Require(Linear({.x = first,
                  .x_stride = normed_.stride,
                  .weight = weight,
                  .y = inner_.x,
                  .y_stride = inner_.stride,
                  .rows = rows_,
                  .batch = {.count = 2,
                            .weight_distance = DecoderLayer::Apart(weight, next),
                            .x_distance = rank_,
                            .y_distance = s.inner + rank_}},
                 plans, context),
          "Linear (w1, w3)");
  Require(SiluMul({.gate = inner_.x,
                   .up = Behind(inner_.x, s.inner + rank_),
                   .in_stride = inner_.stride,
                   .out = inner_.x,
                   .out_stride = inner_.stride,
                   .rows = rows_,
                   .columns = s.inner},
                  context),
          "SiluMul");
}

}  // namespace xcomposer::cuda
