#include "bench/cuda/decode_step.h"

#include <algorithm>
#include <stdexcept>

#include "kernels/cuda/attention_decode.h"
#include "kernels/cuda/decode_linear.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/linear_few_rows.h"
#include "kernels/cuda/norm.h"

namespace xcomposer::cuda {

constexpr int64_t kWorkspace = int64_t{32} << 20;  // of cuBLASLt, as the engine has it

DecodeStep::DecodeStep(const Decoder& decoder, const KvCache& cache,
                       const std::vector<int32_t>& positions, const std::vector<int32_t>& ids,
                       DeviceMemory& memory, const Context& context, const SamplingOptions& options)
    : decoder_(decoder), cache_(cache), sequences_(static_cast<int64_t>(positions.size())) {
  const DecoderShape& s = decoder.shape;
  if (sequences_ < 1 || sequences_ > kFewRows || ids.size() != positions.size() ||
      sequences_ > cache.sequences) {
    throw std::invalid_argument("a step takes 1 to 32 sequences of the cache");
  }
  std::vector<int64_t> slots;
  int64_t longest = 1;
  for (int64_t i = 0; i < sequences_; ++i) {
    const int64_t position = positions[static_cast<size_t>(i)];
    slots.push_back(position < 0 ? -1 : cache.Slot(i, position));
    longest = std::max(longest, position + 1);
    seen_keys_ += position + 1;
  }
  splits_ = DecodeSplits(sequences_, s.heads.kv_heads, longest, context);
  const auto count = static_cast<size_t>(sequences_);
  ids_ = memory.Written(ids);
  positions_ = memory.Written(positions);
  rope_tables_ = memory.Written(std::vector<int32_t>(count, 0));
  slots_ = memory.Written(slots);
  cos_ = memory.Variable<float>(sequences_ * s.heads.head_dim / 2);
  sin_ = memory.Variable<float>(sequences_ * s.heads.head_dim / 2);
  hidden_ = memory.Variable<float>(sequences_ * s.hidden);
  normed_ = memory.Stored(sequences_ * s.hidden);
  q_ = memory.Stored(sequences_ * s.mixed());
  mixed_ = memory.Stored(sequences_ * s.mixed());
  inner_ = memory.Stored(sequences_ * s.inner);
  partial_ = memory.Variable<float>(DecodePartialFloats(s.heads, sequences_, splits_));
  counters_ = memory.Written(std::vector<int32_t>(count * static_cast<size_t>(s.heads.kv_heads)));
  sample_partial_ = memory.Variable<uint64_t>(SamplePartialWords(sequences_, s.vocab));
  sample_counters_ = memory.Written(std::vector<int32_t>(count));
  logits_ = memory.Variable<float>(sequences_ * s.vocab);
  options_ = memory.Written(std::vector<SamplingOptions>(count, options));
  seen_ = memory.Written(std::vector<uint32_t>(count * static_cast<size_t>((s.vocab + 31) / 32)));
  steps_ = memory.Written(std::vector<int64_t>(count));
  plans_ = std::make_unique<LinearPlans>(memory.Variable<char>(kWorkspace), kWorkspace);
}

int64_t DecodeStep::bytes() const {
  return decoder_.shape.step_bytes() + decoder_.shape.layers * bytes(DecodePart::kAttention);
}

int64_t DecodeStep::bytes(DecodePart part) const {
  const DecoderShape& s = decoder_.shape;
  switch (part) {
    case DecodePart::kQkv:
      return 2 * s.qkv() * s.hidden;
    case DecodePart::kAttention:
      return seen_keys_ * 2 * s.kv() * 2;
    case DecodePart::kWo:
      return 2 * s.hidden * s.mixed();
    case DecodePart::kGateUp:
      return 4 * s.inner * s.hidden;
    case DecodePart::kW2:
      return 2 * s.hidden * s.inner;
    case DecodePart::kLogits:
      return 2 * s.vocab * s.hidden;
    case DecodePart::kSample:
      return 4 * sequences_ * s.vocab;
  }
  throw std::invalid_argument("no such part of a step");
}

void DecodeStep::Enqueue(const Context& context) const {
  const DecoderShape& s = decoder_.shape;
  Require(RopeTable({.inverse_frequencies = decoder_.inverse_frequencies,
                     .tables = rope_tables_,
                     .positions = positions_,
                     .cos = cos_,
                     .sin = sin_,
                     .rows = sequences_,
                     .half = s.heads.head_dim / 2},
                    context),
          "RopeTable");
  Require(Embedding({.ids = ids_,
                     .table = decoder_.tok_embeddings,
                     .out = hidden_,
                     .rows = sequences_,
                     .columns = s.hidden,
                     .vocab = s.vocab},
                    context),
          "Embedding");
  for (int64_t layer = 0; layer < s.layers; ++layer) {
    Qkv(layer, context);
    Attention(layer, context);
    Wo(layer, context);
    GateUp(layer, context);
    W2(layer, context);
  }
  Logits(context);
  Choose(context);
}

void DecodeStep::Enqueue(DecodePart part, int64_t layer, const Context& context) const {
  switch (part) {
    case DecodePart::kQkv:
      return Qkv(layer, context);
    case DecodePart::kAttention:
      return Attention(layer, context);
    case DecodePart::kWo:
      return Wo(layer, context);
    case DecodePart::kGateUp:
      return GateUp(layer, context);
    case DecodePart::kW2:
      return W2(layer, context);
    case DecodePart::kLogits:
      return Logits(context);
    case DecodePart::kSample:
      return Choose(context);
  }
}

void DecodeStep::Qkv(int64_t layer, const Context& context) const {
  const DecoderShape& s = decoder_.shape;
  if (sequences_ == 1) {
    Require(DecodeQkv({.x = {hidden_, Layer(layer).attention_norm, s.eps},
                       .wqkv = Layer(layer).wqkv.weight,
                       .shape = s.heads,
                       .cos = cos_,
                       .sin = sin_,
                       .slot = slots_,
                       .q = q_,
                       .k_cache = cache_.keys(layer),
                       .v_cache = cache_.values(layer)},
                      context),
            "DecodeQkv");
    return;
  }
  Norm(Layer(layer).attention_norm, context);
  Require(QkvFewRows({.x = normed_,
                      .wqkv = Layer(layer).wqkv.weight,
                      .heads = s.heads,
                      .rows = sequences_,
                      .cos = cos_,
                      .sin = sin_,
                      .slots = slots_,
                      .q = q_,
                      .k_cache = cache_.keys(layer),
                      .v_cache = cache_.values(layer)},
                     context),
          "QkvFewRows");
}

void DecodeStep::Attention(int64_t layer, const Context& context) const {
  Require(DecodeAttention({.q = q_,
                           .cache = cache_.Layer(layer),
                           .positions = positions_,
                           .shape = decoder_.shape.heads,
                           .sequences = sequences_,
                           .splits = splits_,
                           .partial = partial_,
                           .counters = counters_,
                           .out = mixed_},
                          context),
          "DecodeAttention");
}

void DecodeStep::Wo(int64_t layer, const Context& context) const {
  AddProduct(Layer(layer).wo.weight, mixed_, context);
}

void DecodeStep::GateUp(int64_t layer, const Context& context) const {
  const DecoderLayer& weights = Layer(layer);
  if (sequences_ == 1) {
    Require(DecodeGateUp({.x = {hidden_, weights.ffn_norm, decoder_.shape.eps},
                          .w1 = weights.w1.weight,
                          .w3 = weights.w3.weight,
                          .out = inner_},
                         context),
            "DecodeGateUp");
    return;
  }
  Norm(weights.ffn_norm, context);
  Require(GateUpFewRows({.x = normed_,
                         .w1 = weights.w1.weight,
                         .w3 = weights.w3.weight,
                         .rows = sequences_,
                         .out = inner_},
                        context),
          "GateUpFewRows");
}

void DecodeStep::W2(int64_t layer, const Context& context) const {
  AddProduct(Layer(layer).w2.weight, inner_, context);
}

void DecodeStep::Logits(const Context& context) const {
  if (sequences_ == 1) {
    Require(DecodeLogits({.x = {hidden_, decoder_.norm, decoder_.shape.eps},
                          .weight = decoder_.output,
                          .logits = logits_},
                         context),
            "DecodeLogits");
    return;
  }
  Norm(decoder_.norm, context);
  Require(LinearFewRowsToFloat(
              {.x = normed_, .weight = decoder_.output, .rows = sequences_, .y = logits_}, context),
          "LinearFewRowsToFloat");
}

void DecodeStep::Choose(const Context& context) const {
  Require(Sample({.logits = logits_,
                  .rows = sequences_,
                  .vocab = decoder_.shape.vocab,
                  .options = options_,
                  .seen = seen_,
                  .steps = steps_,
                  .ids = ids_,
                  .partial = sample_partial_,
                  .counters = sample_counters_},
                 context),
          "Sample");
}

void DecodeStep::Norm(const void* weight, const Context& context) const {
  const DecoderShape& s = decoder_.shape;
  Require(RmsNorm({.x = hidden_,
                   .weight = weight,
                   .out = normed_,
                   .rows = sequences_,
                   .columns = s.hidden,
                   .eps = s.eps},
                  context),
          "RmsNorm");
}

void DecodeStep::AddProduct(const WeightMatrix& weight, const void* x,
                            const Context& context) const {
  if (sequences_ == 1) {
    Require(DecodeAdd({.x = x, .weight = weight, .hidden = hidden_}, context), "DecodeAdd");
    return;
  }
  if (!SuitFewRows(sequences_, weight.columns)) {
    return Require(Linear({.x = x,
                           .x_stride = weight.columns,
                           .weight = weight,
                           .y = hidden_,
                           .y_stride = weight.rows,
                           .rows = sequences_,
                           .result = LinearResult::kAddFloat},
                          *plans_, context),
                   "Linear");
  }
  Require(LinearFewRowsAdd({.x = x, .weight = weight, .rows = sequences_, .y = hidden_}, context),
          "LinearFewRowsAdd");
}

}  // namespace xcomposer::cuda
