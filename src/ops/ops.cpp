#include "ops/ops.h"

#include <ATen/core/dispatch/Dispatcher.h>

namespace xcomposer::ops {
namespace {

template <typename Signature>
c10::TypedOperatorHandle<Signature> Find(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

using at::IntArrayRef;
using at::Tensor;

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
  return op.call(x, weight.OpName(), weight.data, weight.scales, weight.zeros, weight.group,
                 weight.bias);
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

Tensor LayerNorm(const Tensor& x, const Tensor& weight, const Tensor& bias, double eps) {
  static const auto op =
      Find<Tensor(const Tensor&, const Tensor&, const Tensor&, double)>("xcomposer::layer_norm");
  return op.call(x, weight, bias, eps);
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

std::tuple<Tensor, Tensor> RopeTable(const Tensor& bases, const Tensor& positions,
                                     int64_t head_dim) {
  static const auto op = Find<std::tuple<Tensor, Tensor>(const Tensor&, const Tensor&, int64_t)>(
      "xcomposer::rope_table");
  return op.call(bases, positions, head_dim);
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
                  const Tensor&, const Tensor&)>("xcomposer::paged_attention");
  return op.call(q, k_cache, v_cache, sequences.first_rows, sequences.row_counts,
                 sequences.positions, sequences.block_tables);
}

Tensor VisionAttention(const Tensor& q, const Tensor& k, const Tensor& v) {
  static const auto op =
      Find<Tensor(const Tensor&, const Tensor&, const Tensor&)>("xcomposer::vision_attention");
  return op.call(q, k, v);
}

void CopyBlocks_(Tensor& cache, IntArrayRef source, IntArrayRef target) {
  static const auto op = Find<void(Tensor&, IntArrayRef, IntArrayRef)>("xcomposer::copy_blocks_");
  op.call(cache, source, target);
}

}  // namespace xcomposer::ops
