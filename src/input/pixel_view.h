#pragma once

#include <cstdint>
#include <span>

namespace xcomposer {

/// Borrowed RGB pixels, (height, width, 3). Anything with the members width, height and rgb
/// (Picture, DecodedImage) can be looked at through it.
struct PixelView {
  int64_t width = 0;
  int64_t height = 0;
  std::span<const uint8_t> rgb;

  PixelView() = default;
  PixelView(int64_t width, int64_t height, std::span<const uint8_t> rgb)
      : width(width), height(height), rgb(rgb) {}
  template <typename Image>
  requires requires(const Image& image) { image.rgb.data(); }
  PixelView(const Image& image)  // NOLINT(google-explicit-constructor): a view, by design
      : width(image.width), height(image.height), rgb(image.rgb) {}
};

}  // namespace xcomposer
