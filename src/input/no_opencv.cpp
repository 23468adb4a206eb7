#include "base/check.h"
#include "input/picture_formats.h"

/// The build without OpenCV and its companions: pictures are given as RGB pixels.
namespace xcomposer {
namespace {

[[noreturn]] DecodedImage Refuse(const char* format) {
  throw Error(
      ErrorKind::kImage,
      StrCat("this build of libxcomposer cannot decode ", format,
             " pictures: it was configured without OpenCV. Give RGB pixels instead, or rebuild "
             "with XCOMPOSER_WITH_OPENCV=ON"));
}

}  // namespace

bool HasImageDecoders() { return false; }

DecodedImage DecodeJpeg(EncodedBytes, const ImageLimits&) { Refuse("JPEG"); }
DecodedImage DecodePng(EncodedBytes, const ImageLimits&) { Refuse("PNG"); }
DecodedImage DecodeWebp(EncodedBytes, const ImageLimits&) { Refuse("WebP"); }
DecodedImage DecodeBmp(EncodedBytes, const ImageLimits&) { Refuse("BMP"); }
DecodedImage DecodeTiff(EncodedBytes, const ImageLimits&) { Refuse("TIFF"); }
DecodedImage DecodeGif(EncodedBytes, const ImageLimits&) { Refuse("GIF"); }

}  // namespace xcomposer
