#include "ops/ops.h"

#include <ATen/core/dispatch/Dispatcher.h>

#include "ops/arguments.h"
#include "ops/composed.h"

namespace xcomposer::ops {
namespace {

template <typename Signature>
c10::TypedOperatorHandle<Signature> Find(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

using at::IntArrayRef;
using at::Tensor;

/// Fused ops know these only.
bool IsPlain(const LinearWeight& weight) {
  return weight.packing == WeightPacking::kDense && !weight.bias;
}

/// Packed weights that may be worked on together.
bool AreAlike(const LinearWeight& a, const LinearWeight& b) {
  return a.packing != WeightPacking::kDense && a.packing == b.packing && a.group == b.group &&
         !a.bias && !b.bias;
}

void LinearPackedInto(Tensor& y, const Tensor& x, const LinearWeight& weight, bool accumulate) {
  static const auto op =
      Find<void(Tensor&, const Tensor&, c10::string_view, const Tensor&, const Tensor&,
                const Tensor&, int64_t, const std::optional<Tensor>&, bool)>(
          "xcomposer::linear_packed_into_");
  op.call(y, x, ToString(weight.packing), weight.data, weight.scales, weight.zeros, weight.group,
          weight.bias, accumulate);
}

}  // namespace

Tensor Linear(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias) {
  static const auto op =
      Find<Tensor(const Tensor&, const Tensor&, const std::optional<Tensor>&)>("xcomposer::linear");
  return op.call(x, weight, bias);
}

Tensor Linear(const Tensor& x, const LinearWeight& weight) {
  if (weight.packing == WeightPacking::kDense) return Linear(x, weight.data, weight.bias);
  static const auto op =
      Find<Tensor(const Tensor&, c10::string_view, const Tensor&, const Tensor&, const Tensor&,
                  int64_t, const std::optional<Tensor>&)>("xcomposer::linear_packed");
  return op.call(x, ToString(weight.packing), weight.data, weight.scales, weight.zeros,
                 weight.group, weight.bias);
}

Tensor LinearFloat(const Tensor& x, const Tensor& weight) {
  static const auto op = Find<Tensor(const Tensor&, const Tensor&)>("xcomposer::linear_float");
  return op.call(x, weight);
}

void LinearInto_(Tensor& y, const Tensor& x, const Tensor& weight, double scale) {
  static const auto op =
      Find<void(Tensor&, const Tensor&, const Tensor&, double)>("xcomposer::linear_into_");
  op.call(y, x, weight, scale);
}

void LinearAdd_(Tensor& y, const Tensor& x, const LinearWeight& weight) {
  if (weight.packing != WeightPacking::kDense) return LinearPackedInto(y, x, weight, true);
  if (weight.bias) return Add_(y, Linear(x, weight));
  static const auto op =
      Find<void(Tensor&, const Tensor&, const Tensor&)>("xcomposer::linear_add_");
  op.call(y, x, weight.data);
}

void LinearAddRows_(Tensor& y, const Tensor& x, const Tensor& a, const Tensor& b, IntArrayRef spans,
                    double scale) {
  static const auto op =
      Find<void(Tensor&, const Tensor&, const Tensor&, const Tensor&, IntArrayRef, double)>(
          "xcomposer::linear_add_rows_");
  op.call(y, x, a, b, spans, scale);
}

Tensor RmsNorm(const Tensor& x, const Tensor& weight, double eps) {
  static const auto op = Find<Tensor(const Tensor&, const Tensor&, double)>("xcomposer::rms_norm");
  return op.call(x, weight, eps);
}

void RmsNormInto_(Tensor& out, const Tensor& x, const Tensor& weight, double eps) {
  static const auto op =
      Find<void(Tensor&, const Tensor&, const Tensor&, double)>("xcomposer::rms_norm_into_");
  op.call(out, x, weight, eps);
}

Tensor LayerNorm(const Tensor& x, const Tensor& weight, const Tensor& bias, double eps) {
  static const auto op =
      Find<Tensor(const Tensor&, const Tensor&, const Tensor&, double)>("xcomposer::layer_norm");
  return op.call(x, weight, bias, eps);
}

void LayerNorm_(Tensor& x, const Tensor& weight, const Tensor& bias, double eps) {
  static const auto op =
      Find<void(Tensor&, const Tensor&, const Tensor&, double)>("xcomposer::layer_norm_");
  op.call(x, weight, bias, eps);
}

Tensor AddLayerNorm(Tensor& y, const Tensor& x, const Tensor& weight, const Tensor& bias,
                    double eps) {
  static const auto op = Find<Tensor(Tensor&, const Tensor&, const Tensor&, const Tensor&, double)>(
      "xcomposer::add_layer_norm");
  return op.call(y, x, weight, bias, eps);
}

void QuickGelu_(Tensor& x) {
  static const auto op = Find<void(Tensor&)>("xcomposer::quick_gelu_");
  op.call(x);
}

void Gelu_(Tensor& x) {
  static const auto op = Find<void(Tensor&)>("xcomposer::gelu_");
  op.call(x);
}

void SiluMul_(Tensor& gate, const Tensor& up) {
  static const auto op = Find<void(Tensor&, const Tensor&)>("xcomposer::silu_mul_");
  op.call(gate, up);
}

void Add_(Tensor& y, const Tensor& x) {
  static const auto op = Find<void(Tensor&, const Tensor&)>("xcomposer::add_");
  op.call(y, x);
}

Tensor Embedding(const Tensor& ids, const Tensor& table) {
  static const auto op = Find<Tensor(const Tensor&, const Tensor&)>("xcomposer::embedding");
  return op.call(ids, table);
}

std::tuple<Tensor, Tensor> RopeTable(const Tensor& inverse_frequencies, const Tensor& tables,
                                     const Tensor& positions) {
  static const auto op =
      Find<std::tuple<Tensor, Tensor>(const Tensor&, const Tensor&, const Tensor&)>(
          "xcomposer::rope_table");
  return op.call(inverse_frequencies, tables, positions);
}

Tensor RopeKv(const Tensor& qkv, const Tensor& cos, const Tensor& sin, Tensor& k_cache,
              Tensor& v_cache, const Tensor& slots) {
  static const auto op =
      Find<Tensor(const Tensor&, const Tensor&, const Tensor&, Tensor&, Tensor&, const Tensor&)>(
          "xcomposer::rope_kv");
  return op.call(qkv, cos, sin, k_cache, v_cache, slots);
}

Tensor PagedAttention(const Tensor& q, const Tensor& k_cache, const Tensor& v_cache,
                      const SequenceTable& sequences) {
  static const auto op =
      Find<Tensor(const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                  const Tensor&, const Tensor&, int64_t)>("xcomposer::paged_attention");
  return op.call(q, k_cache, v_cache, sequences.first_rows, sequences.row_counts,
                 sequences.positions, sequences.block_tables, sequences.longest);
}

void PagedAttentionInto_(Tensor& out, const Tensor& q, const Tensor& k_cache, const Tensor& v_cache,
                         const SequenceTable& sequences) {
  static const auto op =
      Find<void(Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                const Tensor&, const Tensor&, int64_t)>("xcomposer::paged_attention_into_");
  op.call(out, q, k_cache, v_cache, sequences.first_rows, sequences.row_counts, sequences.positions,
          sequences.block_tables, sequences.longest);
}

Tensor VisionAttention(const Tensor& q, const Tensor& k, const Tensor& v) {
  static const auto op =
      Find<Tensor(const Tensor&, const Tensor&, const Tensor&)>("xcomposer::vision_attention");
  return op.call(q, k, v);
}

Tensor NormQkvRope(const QkvArguments& a, Tensor& k_cache, Tensor& v_cache) {
  if (!IsPlain(a.wqkv)) {
    const Tensor qkv = Linear(RmsNorm(a.hidden, a.norm, a.eps), a.wqkv);
    return RopeKv(qkv, a.cos, a.sin, k_cache, v_cache, a.slots);
  }
  static const auto op =
      Find<Tensor(const Tensor&, const Tensor&, double, const Tensor&, const Tensor&, const Tensor&,
                  Tensor&, Tensor&, const Tensor&)>("xcomposer::norm_qkv_rope");
  return op.call(a.hidden, a.norm, a.eps, a.wqkv.data, a.cos, a.sin, k_cache, v_cache, a.slots);
}

Tensor NormGateUp(const Tensor& hidden, const Tensor& norm, double eps, const LinearWeight& w1,
                  const LinearWeight& w3) {
  if (AreAlike(w1, w3)) {
    static const auto packed =
        Find<Tensor(const Tensor&, const Tensor&, double, c10::string_view, at::TensorList,
                    at::TensorList, int64_t)>("xcomposer::norm_gate_up_packed");
    return packed.call(hidden, norm, eps, ToString(w1.packing), {w1.data, w1.scales, w1.zeros},
                       {w3.data, w3.scales, w3.zeros}, w1.group);
  }
  if (!IsPlain(w1) || !IsPlain(w3)) return ComposedNormGateUp(hidden, norm, eps, w1, w3);
  static const auto op =
      Find<Tensor(const Tensor&, const Tensor&, double, const Tensor&, const Tensor&)>(
          "xcomposer::norm_gate_up");
  return op.call(hidden, norm, eps, w1.data, w3.data);
}

void NormScores_(Tensor& scores, const Tensor& hidden, const Tensor& norm, double eps,
                 const LinearWeight& output) {
  if (!IsPlain(output)) {
    CheckNormScores(scores, hidden, output);
    const Tensor x = RmsNorm(hidden, norm, eps);
    if (output.packing != WeightPacking::kDense) return LinearPackedInto(scores, x, output, false);
    scores.copy_(Linear(x, output));
    return;
  }
  static const auto op = Find<void(Tensor&, const Tensor&, const Tensor&, double, const Tensor&)>(
      "xcomposer::norm_scores_");
  op.call(scores, hidden, norm, eps, output.data);
}

Tensor ChooseIds(const Tensor& scores, ChoiceTable& choices) {
  static const auto op =
      Find<Tensor(const Tensor&, const Tensor&, Tensor&, Tensor&)>("xcomposer::choose_ids");
  return op.call(scores, choices.rules, choices.seen, choices.steps);
}

Tensor NormalisePixels(const Tensor& rgb, const Tensor& levels) {
  static const auto op = Find<Tensor(const Tensor&, const Tensor&)>("xcomposer::normalise_pixels");
  return op.call(rgb, levels);
}

Tensor EmbedViews(const Tensor& views, const ViewEmbedding& embedding) {
  static const auto op = Find<Tensor(const Tensor&, const Tensor&, const Tensor&, const Tensor&)>(
      "xcomposer::embed_views");
  return op.call(views, embedding.patches, embedding.classes, embedding.positions);
}

Tensor DropClass(const Tensor& features, at::ScalarType stored) {
  static const auto op = Find<Tensor(const Tensor&, at::ScalarType)>("xcomposer::drop_class");
  return op.call(features, stored);
}

Tensor MergeViews(const Tensor& features, const Separators& separators, int64_t tile_rows,
                  int64_t tile_columns, at::ScalarType stored) {
  static const auto op =
      Find<Tensor(const Tensor&, const Tensor&, const Tensor&, int64_t, int64_t, at::ScalarType)>(
          "xcomposer::merge_views");
  return op.call(features, separators.sub_gn, separators.glb_gn, tile_rows, tile_columns, stored);
}

void CopyBlocks_(Tensor& cache, IntArrayRef source, IntArrayRef target) {
  static const auto op = Find<void(Tensor&, IntArrayRef, IntArrayRef)>("xcomposer::copy_blocks_");
  op.call(cache, source, target);
}

}  // namespace xcomposer::ops
