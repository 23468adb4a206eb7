#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "input/picture_formats.h"

namespace xcomposer {

/// The picture that an animation shows first, as a WebP file of its own, and where it lies on the
/// canvas.
struct WebpStill {
  std::vector<std::byte>
      owned;          ///< the still picture, rebuilt out of the first frame of an animation
  EncodedBytes file;  ///< what to decode: `owned`, or the whole input
  int64_t canvas_width = 0;
  int64_t canvas_height = 0;
  int64_t left = 0;
  int64_t top = 0;
  bool has_alpha = false;  ///< as the file's header says
  int64_t width = 0;
  int64_t height = 0;
};

/// Reads the chunks of a WebP file; no pixels. Throws Error(kImage).
WebpStill FindWebpStill(EncodedBytes encoded);

}  // namespace xcomposer
