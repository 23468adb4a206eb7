#include "bench/cuda/vision_pass.h"

#include <cmath>

#include "kernels/cuda/attention_prefill.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/norm.h"
#include "kernels/cuda/vision.h"

namespace xcomposer::cuda {
namespace {

BiasedLinear MakeLinear(int64_t rows, int64_t columns, DeviceMemory& memory) {
  const float deviation = 1.0f / std::sqrt(static_cast<float>(columns));
  const WeightMatrix weight = memory.Matrix(rows, columns, deviation);
  return {weight, memory.Weight(rows, 0.0f, 0.1f)};
}

LayerNormWeights MakeNorm(int64_t columns, DeviceMemory& memory) {
  const void* weight = memory.Weight(columns, 1.0f, 0.1f);
  return {weight, memory.Weight(columns, 0.0f, 0.1f)};
}

}  // namespace

VisionTower::VisionTower(const VisionShape& sizes, DeviceMemory& memory) : shape(sizes) {
  const int64_t c = shape.hidden;
  patch_embedding =
      memory.Matrix(c, shape.patch_row(), 1.0f / std::sqrt(static_cast<float>(shape.patch_row())));
  class_embedding = memory.Weight(c, 0.0f, 1.0f);
  position_embedding = memory.Weight((shape.patches() + 1) * c, 0.0f, 1.0f);
  pre_norm = MakeNorm(c, memory);
  for (int64_t l = 0; l < shape.layers; ++l) {
    VisionLayer layer;
    layer.norm1 = MakeNorm(c, memory);
    layer.qkv = MakeLinear(3 * c, c, memory);
    layer.out = MakeLinear(c, c, memory);
    layer.norm2 = MakeNorm(c, memory);
    layer.fc1 = MakeLinear(shape.inner, c, memory);
    layer.fc2 = MakeLinear(c, shape.inner, memory);
    layers.push_back(layer);
  }
  sub_gn = memory.Weight(4 * c, 0.0f, 1.0f);
  glb_gn = memory.Weight(4 * c, 0.0f, 1.0f);
  project0 = MakeLinear(shape.output, shape.projected, memory);
  project2 = MakeLinear(shape.output, shape.output, memory);
}

VisionPass::VisionPass(const VisionTower& tower, std::optional<Tiling> tiling, DeviceMemory& memory)
    : tower_(tower), tiling_(tiling) {
  const VisionShape& s = tower.shape;
  if (tiling_) views_ = 1 + tiling_->rows * tiling_->columns;
  rows_ = views_ * (s.patches() + 1);
  feature_rows_ = tiling_ ? MergedRows(s.grid, tiling_->rows, tiling_->columns) : s.patches();
  patch_rows_ = memory.Stored(views_ * s.patches() * s.patch_row());
  patches_ = memory.Variable<float>(views_ * s.patches() * s.hidden);
  hidden_ = memory.Variable<float>(rows_ * s.hidden);
  normed_ = memory.Stored(rows_ * s.hidden);
  qkv_ = memory.Stored(rows_ * 3 * s.hidden);
  mixed_ = memory.Stored(rows_ * s.hidden);
  product_ = memory.Stored(rows_ * s.hidden);
  inner_ = memory.Stored(rows_ * s.inner);
  merged_ = memory.Stored(feature_rows_ * s.projected);
  projected_ = memory.Stored(feature_rows_ * s.output);
  features_ = memory.Stored(feature_rows_ * s.output);
}

double VisionPass::flops() const {
  const VisionShape& s = tower_.shape;
  const auto rows = static_cast<double>(rows_);
  const auto c = static_cast<double>(s.hidden);
  const double layer =
      2 * rows * c * (4 * c + 2 * static_cast<double>(s.inner)) + attention_flops();
  const double patches = 2 * static_cast<double>(views_ * s.patches() * s.patch_row()) * c;
  const double projector = 2 * static_cast<double>(feature_rows_ * s.output) *
                           static_cast<double>(s.projected + s.output);
  return layer * static_cast<double>(s.layers) + patches + projector;
}

double VisionPass::attention_flops() const {
  const VisionShape& s = tower_.shape;
  return 4 * static_cast<double>(rows_) * static_cast<double>((s.patches() + 1) * s.hidden);
}

void VisionPass::Enqueue(const float* pixels, LinearPlans& plans, const Context& context) const {
  const VisionShape& s = tower_.shape;
  Require(PatchRows({.views = pixels,
                     .out = patch_rows_,
                     .views_count = views_,
                     .grid = s.grid,
                     .patch = s.patch,
                     .row_length = s.patch_row()},
                    context),
          "PatchRows");
  Require(Linear({.x = patch_rows_,
                  .x_stride = s.patch_row(),
                  .weight = tower_.patch_embedding,
                  .y = patches_,
                  .y_stride = s.hidden,
                  .rows = views_ * s.patches(),
                  .result = LinearResult::kFloat},
                 plans, context),
          "Linear (patches)");
  Require(VisionEmbed({.patches = patches_,
                       .class_embedding = tower_.class_embedding,
                       .position_embedding = tower_.position_embedding,
                       .out = hidden_,
                       .views_count = views_,
                       .patch_count = s.patches(),
                       .columns = s.hidden},
                      context),
          "VisionEmbed");
  Require(LayerNormToFloat({.x = hidden_,
                            .weight = tower_.pre_norm.weight,
                            .bias = tower_.pre_norm.bias,
                            .out = hidden_,
                            .rows = rows_,
                            .columns = s.hidden,
                            .eps = s.eps},
                           context),
          "LayerNormToFloat");
  Norm(tower_.layers.front().norm1, context);
  for (size_t i = 0; i < tower_.layers.size(); ++i) EnqueueLayer(i, plans, context);
  if (tiling_) {
    Require(Merge({.features = hidden_,
                   .sub_gn = tower_.sub_gn,
                   .glb_gn = tower_.glb_gn,
                   .out = merged_,
                   .grid = s.grid,
                   .columns = s.hidden,
                   .tile_rows = tiling_->rows,
                   .tile_columns = tiling_->columns},
                  context),
            "Merge");
  } else {
    Require(DropClass({.features = hidden_,
                       .out = merged_,
                       .views_count = views_,
                       .patch_count = s.patches(),
                       .columns = s.hidden},
                      context),
            "DropClass");
  }
  Product(tower_.project0, merged_, projected_, feature_rows_, plans, context);
  Require(Gelu({.x = projected_, .count = feature_rows_ * s.output}, context), "Gelu");
  Product(tower_.project2, projected_, features_, feature_rows_, plans, context);
}

void VisionPass::EnqueueLayer(size_t index, LinearPlans& plans, const Context& context) const {
  const VisionShape& s = tower_.shape;
  const VisionLayer& layer = tower_.layers[index];
  Product(layer.qkv, normed_, qkv_, rows_, plans, context);
  Attention(context);
  Product(layer.out, mixed_, product_, rows_, plans, context);
  AddAndNorm(layer.norm2, context);
  Product(layer.fc1, normed_, inner_, rows_, plans, context);
  Require(QuickGelu({.x = inner_, .count = rows_ * s.inner}, context), "QuickGelu");
  Product(layer.fc2, inner_, product_, rows_, plans, context);
  if (index + 1 < tower_.layers.size()) return AddAndNorm(tower_.layers[index + 1].norm1, context);
  Require(Add({.y = hidden_, .x = product_, .count = rows_ * s.hidden}, context), "Add");
}

void VisionPass::Attention(const Context& context) const {
  const VisionShape& s = tower_.shape;
  const int64_t c = s.hidden;
  Require(VisionAttention({.q = qkv_,
                           .k = Behind(qkv_, c),
                           .v = Behind(qkv_, 2 * c),
                           .stride = 3 * c,
                           .out = mixed_,
                           .views = views_,
                           .rows = s.patches() + 1,
                           .heads = s.heads,
                           .head_dim = c / s.heads},
                          context),
          "VisionAttention");
}

void VisionPass::Product(const BiasedLinear& linear, const void* x, void* y, int64_t rows,
                         LinearPlans& plans, const Context& context) const {
  Require(Linear({.x = x,
                  .x_stride = linear.weight.columns,
                  .weight = linear.weight,
                  .bias = linear.bias,
                  .y = y,
                  .y_stride = linear.weight.rows,
                  .rows = rows},
                 plans, context),
          "Linear");
}

void VisionPass::Norm(const LayerNormWeights& weights, const Context& context) const {
  const VisionShape& s = tower_.shape;
  Require(LayerNorm({.x = hidden_,
                     .weight = weights.weight,
                     .bias = weights.bias,
                     .out = normed_,
                     .rows = rows_,
                     .columns = s.hidden,
                     .eps = s.eps},
                    context),
          "LayerNorm");
}

void VisionPass::AddAndNorm(const LayerNormWeights& weights, const Context& context) const {
  const VisionShape& s = tower_.shape;
  Require(AddLayerNorm({.x = hidden_,
                        .added = product_,
                        .weight = weights.weight,
                        .bias = weights.bias,
                        .out = normed_,
                        .rows = rows_,
                        .columns = s.hidden,
                        .eps = s.eps},
                       context),
          "AddLayerNorm");
}

}  // namespace xcomposer::cuda
