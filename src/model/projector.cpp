#include "model/projector.h"

#include <ATen/ops/empty.h>

#include <algorithm>

#include "ops/ops.h"

namespace xcomposer {
namespace {

// Rows projected at a time: bounds the inner activations of a picture of many tiles.
constexpr int64_t kProjectRows = 2048;

}  // namespace

Projector::Projector(const ModelConfig& config, const WeightScope& root)
    : hidden_size_(config.hidden_size),
      vision_(config.vision),
      proj0_(root.Sub("vision_proj.0"), config.hidden_size, config.vision.merged_width()),
      proj2_(root.Sub("vision_proj.2"), config.hidden_size, config.hidden_size) {
  if (vision_.tiled) {
    const int64_t width = vision_.merged_width();
    glb_gn_ = root.TakeFloat("plora_glb_GN", {1, 1, width}).flatten();
    sub_gn_ = root.TakeFloat("plora_sub_GN", {1, 1, 1, width}).flatten();
  }
}

at::Tensor Projector::Forward(const at::Tensor& features, int64_t tile_rows,
                              int64_t tile_columns) const {
  const at::ScalarType stored = proj0_.stored();
  const at::Tensor rows =  // (S, 4C or C)
      vision_.tiled ? ops::MergeViews(features, {.sub_gn = sub_gn_, .glb_gn = glb_gn_}, tile_rows,
                                      tile_columns, stored)
                    : ops::DropClass(features, stored);
  at::Tensor out = at::empty({rows.size(0), hidden_size_}, features.options());  // (S, hidden)
  for (int64_t first = 0; first < rows.size(0); first += kProjectRows) {
    const int64_t count = std::min(kProjectRows, rows.size(0) - first);
    at::Tensor x = proj0_.Forward(rows.narrow(0, first, count));  // (count, hidden)
    ops::Gelu_(x);
    out.narrow(0, first, count).copy_(proj2_.Forward(x));
  }
  return out;
}

}  // namespace xcomposer
