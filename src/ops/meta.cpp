#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <optional>
#include <tuple>

#include "ops/arguments.h"

// Shapes only: a dry run of the whole model checks its shapes and counts its memory without any.
namespace xcomposer::ops {
namespace {

using at::IntArrayRef;
using at::Tensor;

Tensor Empty(IntArrayRef shape, const Tensor& like) {
  return at::empty(shape, like.options().dtype(at::kFloat));
}

Tensor Linear(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias) {
  return Empty(CheckLinear(x, weight, bias), x);
}

Tensor LinearPacked(const Tensor& x, c10::string_view packing, const Tensor& words,
                    const Tensor& scales, const Tensor& zeros, int64_t group,
                    const std::optional<Tensor>& bias) {
  return Empty(
      CheckPackedLinear(x, LinearWeight::Packed(packing, words, scales, zeros, group, bias)), x);
}

void LinearAddRows(Tensor& y, const Tensor& x, const Tensor& a, const Tensor& b, IntArrayRef spans,
                   double) {
  CheckLinearAddRows(y, x, a, b, spans);
}

Tensor RmsNorm(const Tensor& x, const Tensor& weight, double) {
  CheckNorm("rms_norm", x, weight, std::nullopt);
  return Empty(x.sizes(), x);
}

Tensor LayerNorm(const Tensor& x, const Tensor& weight, const Tensor& bias, double) {
  CheckNorm("layer_norm", x, weight, bias);
  return Empty(x.sizes(), x);
}

void QuickGelu(Tensor& x) { CheckElementwise("quick_gelu_", x); }
void Gelu(Tensor& x) { CheckElementwise("gelu_", x); }
void SiluMul(Tensor& gate, const Tensor& up) { CheckSiluMul(gate, up); }
void Add(Tensor& y, const Tensor& x) { CheckSameShape("add_", y, x); }

Tensor Embedding(const Tensor& ids, const Tensor& table) {
  return Empty(CheckEmbedding(ids, table), table);
}

std::tuple<Tensor, Tensor> RopeTable(const Tensor& inverse_frequencies, const Tensor& tables,
                                     const Tensor& positions) {
  const auto shape = CheckRopeTable(inverse_frequencies, tables, positions);
  return {Empty(shape, inverse_frequencies), Empty(shape, inverse_frequencies)};
}

Tensor RopeKv(const Tensor& qkv, const Tensor& cos, const Tensor& sin, Tensor& k_cache,
              Tensor& v_cache, const Tensor& slots) {
  const HeadShape shape = CheckRopeKv(qkv, cos, sin, k_cache, v_cache, slots);
  return Empty({shape.rows, shape.heads, shape.head_dim}, qkv);
}

Tensor PagedAttention(const Tensor& q, const Tensor& k_cache, const Tensor& v_cache,
                      const Tensor& first_rows, const Tensor& row_counts, const Tensor& positions,
                      const Tensor& block_tables, int64_t) {
  CheckPagedAttention(q, k_cache, v_cache, first_rows, row_counts, positions, block_tables);
  return Empty(q.sizes(), q);
}

Tensor VisionAttention(const Tensor& q, const Tensor& k, const Tensor& v) {
  CheckVisionAttention(q, k, v);
  return Empty(q.sizes(), q);
}

Tensor NormalisePixels(const Tensor& rgb, const Tensor& levels) {
  return Empty(CheckNormalisePixels(rgb, levels), levels);
}

void CopyBlocks(Tensor& cache, IntArrayRef source, IntArrayRef target) {
  CheckCopyBlocks(cache, source, target);
}

}  // namespace

TORCH_LIBRARY_IMPL(xcomposer, Meta, m) {
  m.impl("linear", &Linear);
  m.impl("linear_packed", &LinearPacked);
  m.impl("linear_add_rows_", &LinearAddRows);
  m.impl("rms_norm", &RmsNorm);
  m.impl("layer_norm", &LayerNorm);
  m.impl("quick_gelu_", &QuickGelu);
  m.impl("gelu_", &Gelu);
  m.impl("silu_mul_", &SiluMul);
  m.impl("add_", &Add);
  m.impl("embedding", &Embedding);
  m.impl("rope_table", &RopeTable);
  m.impl("rope_kv", &RopeKv);
  m.impl("paged_attention", &PagedAttention);
  m.impl("vision_attention", &VisionAttention);
  m.impl("normalise_pixels", &NormalisePixels);
  m.impl("copy_blocks_", &CopyBlocks);
}

}  // namespace xcomposer::ops
