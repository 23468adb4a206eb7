#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "kernels/cuda/vision.h"
#include "ops/arguments.h"
#include "ops/cuda_arguments.h"
#include "ops/cuda_library.h"
#include "ops/cuda_linear.h"
#include "ops/cuda_resources.h"

// What is done once per picture, before and after the tower's layers. Tables of single rows come in
// float32 and are brought back to the type in which they were stored.
namespace xcomposer::ops {
namespace {

using at::Tensor;

Tensor NormalisePixels(const Tensor& rgb, const Tensor& levels) {
  const auto shape = CheckNormalisePixels(rgb, levels);
  Tensor out = at::empty(shape, levels.options());  // (3, h, w)
  Launched("normalise_pixels", cuda::NormalisePixels({.rgb = rgb.const_data_ptr<uint8_t>(),
                                                      .levels = levels.const_data_ptr<float>(),
                                                      .out = out.mutable_data_ptr<float>(),
                                                      .pixels = shape[1] * shape[2]},
                                                     CurrentCuda().context()));
  return out;
}

Tensor EmbedViews(const Tensor& views, const Tensor& patch_embedding, const Tensor& class_embedding,
                  const Tensor& position_embedding) {
  const char* op = "embed_views";
  const auto [n, g, p, columns] =
      CheckEmbedViews(views, patch_embedding, class_embedding, position_embedding);
  RequireType(op, at::kFloat, {&views});
  const at::ScalarType type = patch_embedding.scalar_type();
  const cuda::Format format = CudaFormatOf(op, patch_embedding);
  const cuda::Context& context = CurrentCuda().context();
  const int64_t numbers = 3 * p * p;
  const int64_t padded = (numbers + 7) / 8 * 8;
  const Tensor rows = at::empty({n * g * g, padded}, patch_embedding.options());
  Launched(op, cuda::PatchRows({.views = views.const_data_ptr<float>(),
                                .out = rows.mutable_data_ptr(),
                                .views_count = n,
                                .grid = g,
                                .patch = p,
                                .row_length = padded,
                                .format = format},
                               context));
  Tensor patches = at::empty({n * g * g, columns}, views.options());
  Multiply({.op = op,
            .x = rows,
            .weight = PaddedColumns(patch_embedding),
            .bias = std::nullopt,
            .result = cuda::LinearResult::kFloat},
           patches);
  const Tensor classes = class_embedding.to(type);
  const Tensor positions = position_embedding.to(type);
  Tensor hidden = at::empty({n, g * g + 1, columns}, views.options());  // (n, N + 1, C)
  Launched(op, cuda::VisionEmbed({.patches = patches.const_data_ptr<float>(),
                                  .class_embedding = classes.const_data_ptr(),
                                  .position_embedding = positions.const_data_ptr(),
                                  .out = hidden.mutable_data_ptr<float>(),
                                  .views_count = n,
                                  .patch_count = g * g,
                                  .columns = columns,
                                  .format = format},
                                 context));
  return hidden;
}

Tensor DropClass(const Tensor& features, at::ScalarType stored) {
  const char* op = "drop_class";
  const ViewShape shape = CheckDropClass(features);
  RequireType(op, at::kFloat, {&features});
  const int64_t patches = features.size(1) - 1;
  Tensor out = at::empty({shape.views * patches, shape.columns}, features.options().dtype(stored));
  Launched(op, cuda::DropClass({.features = features.const_data_ptr<float>(),
                                .out = out.mutable_data_ptr(),
                                .views_count = shape.views,
                                .patch_count = patches,
                                .columns = shape.columns,
                                .format = CudaFormatOf(op, out)},
                               CurrentCuda().context()));
  return out;
}

Tensor MergeViews(const Tensor& features, const Tensor& sub_gn, const Tensor& glb_gn,
                  int64_t tile_rows, int64_t tile_columns, at::ScalarType stored) {
  const char* op = "merge_views";
  const ViewShape shape = CheckMergeViews(features, sub_gn, glb_gn, tile_rows, tile_columns);
  RequireType(op, at::kFloat, {&features});
  const Tensor sub = sub_gn.to(stored);
  const Tensor glb = glb_gn.to(stored);
  Tensor out = at::empty({cuda::MergedRows(shape.grid, tile_rows, tile_columns), 4 * shape.columns},
                         sub.options());
  Launched(op, cuda::Merge({.features = features.const_data_ptr<float>(),
                            .sub_gn = sub.const_data_ptr(),
                            .glb_gn = glb.const_data_ptr(),
                            .out = out.mutable_data_ptr(),
                            .grid = shape.grid,
                            .columns = shape.columns,
                            .tile_rows = tile_rows,
                            .tile_columns = tile_columns,
                            .format = CudaFormatOf(op, out)},
                           CurrentCuda().context()));
  return out;
}

}  // namespace

void RegisterCudaVision(torch::Library& m) {
  m.impl("normalise_pixels", &NormalisePixels);
  m.impl("embed_views", &EmbedViews);
  m.impl("drop_class", &DropClass);
  m.impl("merge_views", &MergeViews);
}

}  // namespace xcomposer::ops
