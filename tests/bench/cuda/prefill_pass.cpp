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
      spans_(spans) {
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
  normed_ = memory.Stored(rows_ * s.hidden);
  qkv_ = memory.Stored(rows_ * s.qkv());
  q_ = memory.Stored(rows_ * s.mixed());
  mixed_ = memory.Stored(rows_ * s.mixed());
  gate_up_ = memory.Stored(rows_ * 2 * s.inner);
  inner_ = memory.Stored(rows_ * s.inner);
  low_ = memory.Stored(rows_ * s.adapter_rank);
  logits_ = memory.Variable<float>(s.vocab);
  options_ = memory.Written(std::vector<SamplingOptions>(1));
  seen_ = memory.Written(std::vector<uint32_t>(static_cast<size_t>((s.vocab + 31) / 32)));
  steps_ = memory.Written(std::vector<int64_t>(1));
  sample_partial_ = memory.Variable<uint64_t>(SamplePartialWords(1, s.vocab));
  sample_counters_ = memory.Written(std::vector<int32_t>(1));
  id_ = memory.Variable<int32_t>(1);
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
  const int64_t stride = 2 * s.inner;
  Require(Linear({.x = normed_,
                  .x_stride = s.hidden,
                  .weight = weights.w1_and_w3,
                  .y = gate_up_,
                  .y_stride = stride,
                  .rows = rows_},
                 plans, context),
          "Linear (w1, w3)");
  void* up = Behind(gate_up_, s.inner);
  Adapt(weights.w1, normed_, gate_up_, stride, LinearResult::kAddStored, plans, context);
  Adapt(weights.w3, normed_, up, stride, LinearResult::kAddStored, plans, context);
  Require(SiluMul({.gate = gate_up_,
                   .up = up,
                   .in_stride = stride,
                   .out = inner_,
                   .rows = rows_,
                   .columns = s.inner},
                  context),
          "SiluMul");
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
                            .out = mixed_},
                           context),
          "PrefillAttention");
}

void PrefillPass::Norm(const void* weight, const Context& context) const {
  const DecoderShape& s = decoder_.shape;
  Require(RmsNorm({.x = hidden_,
                   .weight = weight,
                   .out = normed_,
                   .rows = rows_,
                   .columns = s.hidden,
                   .eps = s.eps},
                  context),
          "RmsNorm");
}

void PrefillPass::Project(const AdaptedLinear& linear, const void* x, void* y, LinearResult result,
                          LinearPlans& plans, const Context& context) const {
  Require(Linear({.x = x,
                  .x_stride = linear.weight.columns,
                  .weight = linear.weight,
                  .y = y,
                  .y_stride = linear.weight.rows,
                  .rows = rows_,
                  .result = result},
                 plans, context),
          "Linear");
  const LinearResult add =
      result == LinearResult::kStored ? LinearResult::kAddStored : LinearResult::kAddFloat;
  Adapt(linear, x, y, linear.weight.rows, add, plans, context);
}

void PrefillPass::Adapt(const AdaptedLinear& linear, const void* x, void* y, int64_t y_stride,
                        LinearResult result, LinearPlans& plans, const Context& context) const {
  Require(AddLowRank({.x = x,
                      .x_stride = linear.weight.columns,
                      .a = linear.a,
                      .b = linear.b,
                      .inner = low_,
                      .y = y,
                      .y_stride = y_stride,
                      .scale = decoder_.shape.adapter_scale,
                      .result = result},
                     spans_, plans, context),
          "AddLowRank");
}

}  // namespace xcomposer::cuda
