#include "input/image_decoder.h"

#include <array>
#include <new>
#include <string_view>

#include "base/check.h"
#include "base/checked_math.h"
#include "base/small_file.h"
#include "input/picture_formats.h"

namespace xcomposer {
namespace {

using std::string_view_literals::operator""sv;

struct Signature {
  std::string_view bytes;
  ImageFormat format;
};

// TIFF in its two byte orders, two mistakes that Pillow forgives, and BigTIFF.
constexpr std::array kSignatures = {
    Signature{"\xff\xd8\xff"sv, ImageFormat::kJpeg},
    Signature{"\x89PNG\r\n\x1a\n"sv, ImageFormat::kPng},
    Signature{"BM"sv, ImageFormat::kBmp},
    Signature{"GIF87a"sv, ImageFormat::kGif},
    Signature{"GIF89a"sv, ImageFormat::kGif},
    Signature{"MM\x00\x2a"sv, ImageFormat::kTiff},
    Signature{"II\x2a\x00"sv, ImageFormat::kTiff},
    Signature{"MM\x00\x2b"sv, ImageFormat::kTiff},
    Signature{"II\x2b\x00"sv, ImageFormat::kTiff},
};

std::string_view AsText(EncodedBytes bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

DecodedImage DecodeSniffed(EncodedBytes encoded, const ImageLimits& limits) {
  Require(!encoded.empty(), ErrorKind::kImage, "the picture is empty (0 bytes)");
  Require(static_cast<int64_t>(encoded.size()) <= limits.max_bytes, ErrorKind::kImage,
          "the encoded picture has ", encoded.size(), " bytes, the limit is ", limits.max_bytes);
  switch (SniffImageFormat(encoded)) {
    case ImageFormat::kJpeg:
      return DecodeJpeg(encoded, limits);
    case ImageFormat::kPng:
      return DecodePng(encoded, limits);
    case ImageFormat::kWebp:
      return DecodeWebp(encoded, limits);
    case ImageFormat::kBmp:
      return DecodeBmp(encoded, limits);
    case ImageFormat::kTiff:
      return DecodeTiff(encoded, limits);
    case ImageFormat::kGif:
      return DecodeGif(encoded, limits);
    case ImageFormat::kUnknown:
      break;
  }
  throw Error(
      ErrorKind::kImage,
      "not a picture of a known kind: expected JPEG, PNG, WebP, BMP, TIFF or GIF (told apart by "
      "their first bytes, not by the file's name)");
}

}  // namespace

ImageFormat SniffImageFormat(EncodedBytes encoded) {
  const std::string_view text = AsText(encoded);
  for (const Signature& signature : kSignatures) {
    if (text.starts_with(signature.bytes)) return signature.format;
  }
  if (text.size() >= 16 && text.starts_with("RIFF") && text.substr(8, 4) == "WEBP" &&
      text.substr(12, 3) == "VP8") {
    return ImageFormat::kWebp;
  }
  return ImageFormat::kUnknown;
}

void CheckImageSize(int64_t width, int64_t height, const ImageLimits& limits) {
  Require(width > 0 && height > 0, ErrorKind::kImage, "the picture has no pixels: its size is ",
          width, " x ", height);
  const auto pixels = CheckedMul(width, height);
  Require(pixels && *pixels <= limits.max_pixels, ErrorKind::kImage,
          "the picture is too large: ", width, " x ", height, " pixels, the limit is ",
          limits.max_pixels, " in all");
}

DecodedImage MakeImage(int64_t width, int64_t height, const char* mode) {
  DecodedImage image;
  image.width = width;
  image.height = height;
  image.rgb.resize(static_cast<size_t>(width * height * 3));
  image.mode = mode;
  return image;
}

DecodedImage DecodeImage(EncodedBytes encoded, const ImageLimits& limits,
                         const std::string& label) {
  try {
    return DecodeSniffed(encoded, limits);
  } catch (const Error& error) {
    throw Error(error.kind(), StrCat("picture '", label, "': ", error.what()), error.where())
        .With("image", label);
  } catch (const std::bad_alloc&) {
    throw Error(ErrorKind::kCapacity,
                StrCat("picture '", label, "': not enough memory to decode it"),
                {{"image", label}});
  }
}

std::string ReadImageFile(const std::string& path, const ImageLimits& limits) {
  try {
    return ReadSmallFile(path, limits.max_bytes, ErrorKind::kImage);
  } catch (const Error& error) {
    throw error.With("image", path);
  } catch (const std::bad_alloc&) {
    throw Error(ErrorKind::kCapacity, StrCat("picture '", path, "': not enough memory to read it"),
                {{"image", path}});
  }
}

DecodedImage LoadImage(const std::string& path, const ImageLimits& limits) {
  const std::string bytes = ReadImageFile(path, limits);
  return DecodeImage(std::as_bytes(std::span(bytes)), limits, path);
}

}  // namespace xcomposer
