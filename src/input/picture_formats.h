#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "input/image_decoder.h"

/// The decoders behind DecodeImage, one file each. All of them read the header first, check it
/// against the limits, then decode; all throw Error(kImage). std only, so that they build without
/// the libraries.
namespace xcomposer {

using EncodedBytes = std::span<const std::byte>;

DecodedImage DecodeJpeg(EncodedBytes encoded, const ImageLimits& limits);
DecodedImage DecodePng(EncodedBytes encoded, const ImageLimits& limits);
DecodedImage DecodeWebp(EncodedBytes encoded, const ImageLimits& limits);
DecodedImage DecodeBmp(EncodedBytes encoded, const ImageLimits& limits);
DecodedImage DecodeTiff(EncodedBytes encoded, const ImageLimits& limits);
DecodedImage DecodeGif(EncodedBytes encoded, const ImageLimits& limits);

/// Throws Error(kImage) for a size of zero, a negative one, or one beyond the limits.
void CheckImageSize(int64_t width, int64_t height, const ImageLimits& limits);

/// An image of the given size with `mode`, all zero. The size must have been checked.
DecodedImage MakeImage(int64_t width, int64_t height, const char* mode);

}  // namespace xcomposer
