#pragma once

#include <ATen/core/Tensor.h>

#include "batch/picture.h"
#include "config/model_config.h"

namespace xcomposer {

/// A picture cut into what the vision tower sees: one view, or under tiling the global view
/// followed by the tiles row by row (model specification 3.5, 4).
class VisionViews {
 public:
  /// Throws kImage where the picture's size does not suit the model. Only the picture's bytes go
  /// to `device`, where all else is done.
  VisionViews(const VisionConfig& config, const Picture& picture, at::Device device);

  int64_t count() const { return config_.tiled ? 1 + tile_rows_ * tile_columns_ : 1; }
  int64_t tile_rows() const { return tile_rows_; }
  int64_t tile_columns() const { return tile_columns_; }

  /// Views first .. first + count - 1 as (count, 3, P, P) float32, normalised.
  at::Tensor Take(int64_t first, int64_t count) const;

 private:
  VisionConfig config_;
  int64_t tile_rows_;
  int64_t tile_columns_;
  at::Tensor pixels_;  // (3, height, width) float32, normalised
  at::Tensor global_;  // (3, P, P), only under tiling
};

}  // namespace xcomposer
