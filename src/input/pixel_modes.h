#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "input/image_decoder.h"

/// The conversions to RGB that Pillow makes, pixel for pixel.
namespace xcomposer {

/// 256 RGB colours; entries that the file does not define are black.
using Palette = std::array<std::array<uint8_t, 3>, 256>;

/// Writes pixel `index` of the image.
inline void SetPixel(DecodedImage& image, int64_t index, const std::array<uint8_t, 3>& colour) {
  uint8_t* out = image.rgb.data() + index * 3;
  out[0] = colour[0];
  out[1] = colour[1];
  out[2] = colour[2];
}

inline void SetGray(DecodedImage& image, int64_t index, uint8_t gray) {
  SetPixel(image, index, {gray, gray, gray});
}

/// 16-bit gray is clipped, not scaled.
inline uint8_t ClipGray16(int value) { return static_cast<uint8_t>(value > 255 ? 255 : value); }

/// Pillow's rounded a * b / 255.
inline int MulDiv255(int a, int b) {
  const int product = a * b + 128;
  return (product + (product >> 8)) >> 8;
}

/// One ink of CMYK (0 none, 255 full) against black.
inline uint8_t InkToLight(int ink, int black) {
  const int white = 255 - black;
  const int light = white - MulDiv255(ink, white);
  return static_cast<uint8_t>(light < 0 ? 0 : light);
}

inline std::array<uint8_t, 3> CmykToRgb(const uint8_t* cmyk) {
  return {InkToLight(cmyk[0], cmyk[3]), InkToLight(cmyk[1], cmyk[3]), InkToLight(cmyk[2], cmyk[3])};
}

/// Undoes a product with alpha, as Pillow does on reading premultiplied colours.
inline uint8_t Unpremultiply(int value, int alpha) {
  if (alpha == 0) return 0;
  if (alpha == 255) return static_cast<uint8_t>(value);
  const int colour = 255 * value / alpha;
  return static_cast<uint8_t>(colour > 255 ? 255 : colour);
}

/// Sample `index` of a row of `bits`-bit samples (1, 2, 4 or 8), most significant first.
inline int PackedSample(const uint8_t* row, int64_t index, int bits) {
  const int64_t bit = index * bits;
  return row[bit >> 3] >> (8 - bits - (bit & 7)) & ((1 << bits) - 1);
}

}  // namespace xcomposer
