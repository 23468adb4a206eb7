#include "model/projector.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>

#include <algorithm>

#include "ops/ops.h"

namespace xcomposer {
namespace {

// Rows projected at a time: bounds the inner activations of a picture of many tiles.
constexpr int64_t kProjectRows = 2048;

/// grid (rows, columns, W) -> (rows * (columns + 1), W), each row of tokens ended by `end`.
at::Tensor WithRowEnds(const at::Tensor& grid, const at::Tensor& end) {
  return at::cat({grid, end.view({1, 1, -1}).expand({grid.size(0), 1, -1})}, 1).flatten(0, 1);
}

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

at::Tensor Projector::Merge(const at::Tensor& features, int64_t tile_rows,
                            int64_t tile_columns) const {
  const int64_t n = features.size(0);
  const int64_t m = vision_.grid() / 2;
  const int64_t width = vision_.merged_width();
  at::Tensor tokens = features.reshape({n, m, 2, m, 2, vision_.hidden_size})
                          .permute({0, 1, 3, 2, 4, 5})  // (n, i, j, dy, dx, C)
                          .reshape({n, m, m, width});   // (n, m, m, 4C)
  at::Tensor tiles = tokens.narrow(0, 1, n - 1)
                         .view({tile_rows, tile_columns, m, m, width})
                         .transpose(1, 2)  // (h, m, w, m, 4C)
                         .reshape({tile_rows * m, tile_columns * m, width});
  return at::cat({WithRowEnds(tokens.select(0, 0), sub_gn_),  // the global view
                  glb_gn_.view({1, width}),                   // between it and the tiles
                  WithRowEnds(tiles, sub_gn_)});              // (rows, 4C)
}

at::Tensor Projector::Forward(const at::Tensor& features, int64_t tile_rows,
                              int64_t tile_columns) const {
  const at::Tensor rows = vision_.tiled ? Merge(features, tile_rows, tile_columns)
                                        : features.flatten(0, 1);            // (S, 4C or C)
  at::Tensor out = at::empty({rows.size(0), hidden_size_}, rows.options());  // (S, hidden)
  for (int64_t first = 0; first < rows.size(0); first += kProjectRows) {
    const int64_t count = std::min(kProjectRows, rows.size(0) - first);
    at::Tensor x = proj0_.Forward(rows.narrow(0, first, count));  // (count, hidden)
    ops::Gelu_(x);
    out.narrow(0, first, count).copy_(proj2_.Forward(x));
  }
  return out;
}

}  // namespace xcomposer
