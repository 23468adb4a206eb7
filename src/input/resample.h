#pragma once

#include <cstdint>
#include <optional>

#include "batch/picture.h"
#include "input/pixel_view.h"

namespace xcomposer {

/// Pillow's antialiased filters; bicubic has a = -0.5.
enum class ResampleFilter { kBilinear, kBicubic };

struct PictureSize {
  int64_t width = 0;
  int64_t height = 0;
};

/// Resizes as Pillow 9.4 and 10.4 do, bit for bit: horizontally, then vertically, rounded to bytes
/// in between; a pass that changes nothing is left out (the model specification, 4.1). Pillow 13
/// makes the vertical pass first for many shapes, and other last bits (docs/exactness.md). Sizes
/// must be positive.
Picture Resize(const PixelView& source, int64_t width, int64_t height, ResampleFilter filter);

/// Bytes that Resize takes besides the source and the result: the picture between its two passes,
/// and the weights, rounded up. Nothing where they do not fit into int64. Sizes must be positive.
std::optional<int64_t> ResizeScratchBytes(const PictureSize& from, const PictureSize& to);

/// Swaps the axes: out[y][x] = in[x][y], a mirror and not a rotation.
Picture Transpose(const PixelView& source);

}  // namespace xcomposer
