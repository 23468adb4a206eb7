#include "ops/composed.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "ops/arguments.h"
#include "ops/ops.h"

namespace xcomposer::ops {

using at::Tensor;

namespace {

Tensor ComposedLinearFloat(const Tensor& x, const Tensor& weight) { return Linear(x, weight); }

void ComposedLinearInto(Tensor& y, const Tensor& x, const Tensor& weight, double scale) {
  CheckLinearInto(y, x, weight);
  if (y.dim() == 2) {
    y.copy_(Linear(x, weight).mul_(scale));
    return;
  }
  for (int64_t p = 0; p < y.size(1); ++p) {
    y.select(1, p).copy_(Linear(x.select(1, p), weight.select(0, p)).mul_(scale));
  }
}

void ComposedRmsNormInto(Tensor& out, const Tensor& x, const Tensor& weight, double eps) {
  CheckRowsInto("rms_norm_into_", out, x.sizes());
  out.copy_(RmsNorm(x, weight, eps));
}

void ComposedPagedAttentionInto(Tensor& out, const Tensor& q, const Tensor& k_cache,
                                const Tensor& v_cache, const Tensor& first_rows,
                                const Tensor& row_counts, const Tensor& positions,
                                const Tensor& block_tables, int64_t longest) {
  const Tensor mixed = PagedAttention(q, k_cache, v_cache,
                                      {first_rows, row_counts, positions, block_tables, longest});
  CheckRowsInto("paged_attention_into_", out, mixed.flatten(1).sizes());
  out.copy_(mixed.flatten(1));
}

void ComposedLinearAdd(Tensor& y, const Tensor& x, const Tensor& weight) {
  Add_(y, Linear(x, weight));
}

void ComposedLinearPackedInto(Tensor& y, const Tensor& x, c10::string_view packing,
                              const Tensor& words, const Tensor& scales, const Tensor& zeros,
                              int64_t group, const std::optional<Tensor>& bias, bool accumulate) {
  const LinearWeight weight = LinearWeight::Packed(packing, words, scales, zeros, group, bias);
  CheckLinearOnto("linear_packed_into_", y, CheckPackedLinear(x, weight));
  const Tensor product = Linear(x, weight);
  if (accumulate) {
    Add_(y, product);
  } else {
    y.copy_(product);
  }
}

Tensor ComposedNormGateUpDense(const Tensor& hidden, const Tensor& norm, double eps,
                               const Tensor& w1, const Tensor& w3) {
  return ComposedNormGateUp(hidden, norm, eps, LinearWeight::Dense(w1), LinearWeight::Dense(w3));
}

Tensor ComposedNormGateUpPacked(const Tensor& hidden, const Tensor& norm, double eps,
                                c10::string_view packing, at::TensorList w1, at::TensorList w3,
                                int64_t group) {
  return ComposedNormGateUp(hidden, norm, eps, LinearWeight::Packed(packing, w1, group),
                            LinearWeight::Packed(packing, w3, group));
}

void ComposedLayerNorm(Tensor& x, const Tensor& weight, const Tensor& bias, double eps) {
  x.copy_(LayerNorm(x, weight, bias, eps));
}

Tensor ComposedAddLayerNorm(Tensor& y, const Tensor& x, const Tensor& weight, const Tensor& bias,
                            double eps) {
  Add_(y, x);
  return LayerNorm(y, weight, bias, eps);
}

void ComposedNormScores(Tensor& scores, const Tensor& hidden, const Tensor& norm, double eps,
                        const Tensor& output) {
  CheckNormScores(scores, hidden, output);
  scores.copy_(LinearFloat(RmsNorm(hidden, norm, eps), output));
}

/// The convolution with stride p is a linear over the pixels of each patch.
Tensor ComposedEmbedViews(const Tensor& views, const Tensor& patch_embedding,
                          const Tensor& class_embedding, const Tensor& position_embedding) {
  const auto [n, g, p, columns] =
      CheckEmbedViews(views, patch_embedding, class_embedding, position_embedding);
  const Tensor patches = views
                             .reshape({n, 3, g, p, g, p})      // (n, 3, row, y, column, x)
                             .permute({0, 2, 4, 1, 3, 5})      // (n, row, column, 3, y, x)
                             .reshape({n, g * g, 3 * p * p});  // (n, N, 3 p p)
  Tensor hidden = at::empty({n, g * g + 1, columns}, views.options());
  hidden.narrow(1, 0, 1).copy_(class_embedding.view({1, 1, -1}));
  hidden.narrow(1, 1, g * g).copy_(LinearFloat(patches, patch_embedding));
  return hidden.add_(position_embedding);
}

Tensor ComposedDropClass(const Tensor& features, at::ScalarType) {
  CheckDropClass(features);
  return features.narrow(1, 1, features.size(1) - 1).flatten(0, 1);
}

/// grid (rows, columns, W) -> (rows * (columns + 1), W), each row of tokens ended by `end`.
Tensor WithRowEnds(const Tensor& grid, const Tensor& end) {
  return at::cat({grid, end.view({1, 1, -1}).expand({grid.size(0), 1, -1})}, 1).flatten(0, 1);
}

Tensor ComposedMergeViews(const Tensor& features, const Tensor& sub_gn, const Tensor& glb_gn,
                          int64_t tile_rows, int64_t tile_columns, at::ScalarType) {
  const ViewShape shape = CheckMergeViews(features, sub_gn, glb_gn, tile_rows, tile_columns);
  const int64_t m = shape.grid / 2;
  const int64_t width = 4 * shape.columns;
  const Tensor tokens = features.narrow(1, 1, features.size(1) - 1)
                            .reshape({shape.views, m, 2, m, 2, shape.columns})
                            .permute({0, 1, 3, 2, 4, 5})           // (n, i, j, dy, dx, C)
                            .reshape({shape.views, m, m, width});  // (n, m, m, 4C)
  const Tensor tiles = tokens.narrow(0, 1, shape.views - 1)
                           .view({tile_rows, tile_columns, m, m, width})
                           .transpose(1, 2)  // (h, m, w, m, 4C)
                           .reshape({tile_rows * m, tile_columns * m, width});
  return at::cat({WithRowEnds(tokens.select(0, 0), sub_gn),  // the global view
                  glb_gn.view({1, width}),                   // between it and the tiles
                  WithRowEnds(tiles, sub_gn)});              // (S, 4C)
}

}  // namespace

Tensor ComposedNormQkvRope(const Tensor& hidden, const Tensor& norm, double eps, const Tensor& wqkv,
                           const Tensor& cos, const Tensor& sin, Tensor& k_cache, Tensor& v_cache,
                           const Tensor& slots) {
  const Tensor qkv = Linear(RmsNorm(hidden, norm, eps), wqkv);
  return RopeKv(qkv, cos, sin, k_cache, v_cache, slots);
}

Tensor ComposedNormGateUp(const Tensor& hidden, const Tensor& norm, double eps,
                          const LinearWeight& w1, const LinearWeight& w3) {
  const Tensor x = RmsNorm(hidden, norm, eps);
  Tensor gate = Linear(x, w1);
  SiluMul_(gate, Linear(x, w3));
  return gate;
}

TORCH_LIBRARY_IMPL(xcomposer, CompositeExplicitAutograd, m) {
  m.impl("linear_float", &ComposedLinearFloat);
  m.impl("linear_into_", &ComposedLinearInto);
  m.impl("linear_add_", &ComposedLinearAdd);
  m.impl("linear_packed_into_", &ComposedLinearPackedInto);
  m.impl("rms_norm_into_", &ComposedRmsNormInto);
  m.impl("paged_attention_into_", &ComposedPagedAttentionInto);
  m.impl("layer_norm_", &ComposedLayerNorm);
  m.impl("add_layer_norm", &ComposedAddLayerNorm);
  m.impl("norm_qkv_rope", &ComposedNormQkvRope);
  m.impl("norm_gate_up", &ComposedNormGateUpDense);
  m.impl("norm_gate_up_packed", &ComposedNormGateUpPacked);
  m.impl("norm_scores_", &ComposedNormScores);
  m.impl("embed_views", &ComposedEmbedViews);
  m.impl("drop_class", &ComposedDropClass);
  m.impl("merge_views", &ComposedMergeViews);
}

}  // namespace xcomposer::ops
