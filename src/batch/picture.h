#pragma once

#include <cstdint>
#include <vector>

namespace xcomposer {

/// A picture ready for the vision tower: resized and padded exactly as the reference does, before
/// normalisation. `trace` shows it as image<i>.rgb.
///
/// 2-7b, 2-vl-7b, 2-vl-1.8b: width = height = img_size, one view.
/// 2-4khd-7b, 2.5-7b: width and height are multiples of the tile size; the views are the global one
/// and width / tile * height / tile tiles.
struct Picture {
  int64_t width = 0;
  int64_t height = 0;
  std::vector<uint8_t> rgb;  // (height, width, 3)
};

}  // namespace xcomposer
