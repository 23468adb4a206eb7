#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace xcomposer {

/// What a picture may cost, checked before anything is decoded or allocated.
struct ImageLimits {
  int64_t max_pixels = 178'956'970;      ///< width * height; Pillow's own bomb limit
  int64_t max_bytes = int64_t{1} << 30;  ///< size of the encoded file
};

/// A decoded picture: what Pillow's Image.open(file).convert("RGB") gives, bit for bit
/// (compared with Pillow 13.0 on every file of tests/input/pictures).
struct DecodedImage {
  int64_t width = 0;
  int64_t height = 0;
  std::vector<uint8_t> rgb;  ///< (height, width, 3)
  std::string mode;  ///< Pillow's name of the file's pixels: "1", "L", "LA", "P", "RGB", "RGBA",
                     ///< "CMYK", "I;16"
};

/// The encodings that are told apart by their first bytes; names and extensions play no role.
enum class ImageFormat { kUnknown, kJpeg, kPng, kWebp, kBmp, kTiff, kGif };

ImageFormat SniffImageFormat(std::span<const std::byte> encoded);

/// True where this build can decode pictures (see no_opencv.cpp); RGB pixels always work.
bool HasImageDecoders();

/// Decodes JPEG, PNG, WebP, BMP, TIFF or GIF (animated ones: the first frame). `label` names the
/// picture in errors. Throws Error(kImage) for an unknown, unsupported, broken, truncated or
/// oversized picture, and for every picture where HasImageDecoders() is false.
///
/// As in Pillow: alpha and transparent colours are dropped, not blended; gray of 16 bits is clipped
/// to 255, the other 16-bit layouts keep their high byte; CMYK JPEGs count as inverted; EXIF
/// orientation is ignored, while the orientation tag of a TIFF is applied.
DecodedImage DecodeImage(std::span<const std::byte> encoded, const ImageLimits& limits,
                         const std::string& label);

/// The bytes of a regular file within limits.max_bytes. Throws Error(kImage) naming the file, or
/// kCapacity where there is no memory for it.
std::string ReadImageFile(const std::string& path, const ImageLimits& limits);

/// DecodeImage of a file's bytes.
DecodedImage LoadImage(const std::string& path, const ImageLimits& limits = {});

}  // namespace xcomposer
