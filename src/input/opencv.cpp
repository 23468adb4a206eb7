#include <algorithm>
#include <limits>
#include <new>
#include <opencv2/core.hpp>
#include <opencv2/imgcodecs.hpp>

#include "base/check.h"
#include "input/picture_formats.h"
#include "input/pixel_modes.h"
#include "input/webp_container.h"

/// The one place that uses OpenCV: WebP bit streams. The other encodings are decoded by their own
/// libraries, since OpenCV loses palettes and 16-bit gray, turns by EXIF and tolerates truncation.
namespace xcomposer {
namespace {

cv::Mat DecodeStill(const WebpStill& still) {
  Require(still.file.size() <= static_cast<size_t>(std::numeric_limits<int>::max()),
          ErrorKind::kImage, "the WebP file is larger than 2 GiB");
  const cv::Mat bytes(1, static_cast<int>(still.file.size()), CV_8UC1,
                      const_cast<std::byte*>(still.file.data()));  // only read from
  cv::Mat pixels;
  try {
    pixels = cv::imdecode(bytes, cv::IMREAD_UNCHANGED);
  } catch (const cv::Exception& error) {
    if (error.code == cv::Error::StsNoMem) throw std::bad_alloc();
    throw Error(ErrorKind::kImage, StrCat("broken WebP: ", error.what()));
  }
  Require(!pixels.empty(), ErrorKind::kImage,
          "broken or truncated WebP: its pixels cannot be decoded");
  Require(pixels.depth() == CV_8U && pixels.channels() >= 3 && pixels.cols == still.width &&
              pixels.rows == still.height,
          ErrorKind::kImage, "broken WebP: its pixels are ", pixels.cols, " x ", pixels.rows,
          ", the header says ", still.width, " x ", still.height);
  return pixels;
}

}  // namespace

bool HasImageDecoders() { return true; }

DecodedImage DecodeWebp(EncodedBytes encoded, const ImageLimits& limits) {
  const WebpStill still = FindWebpStill(encoded);
  CheckImageSize(still.canvas_width, still.canvas_height, limits);
  CheckImageSize(still.width, still.height, limits);
  const cv::Mat pixels = DecodeStill(still);
  const int channels = pixels.channels();
  DecodedImage image =
      MakeImage(still.canvas_width, still.canvas_height, still.has_alpha ? "RGBA" : "RGB");
  for (int64_t y = 0; y < still.height; ++y) {
    const uint8_t* in = pixels.ptr<uint8_t>(static_cast<int>(y));
    const int64_t row = (still.top + y) * still.canvas_width + still.left;
    for (int64_t x = 0; x < still.width; ++x, in += channels) {
      SetPixel(image, row + x, {in[2], in[1], in[0]});
    }
  }
  return image;
}

}  // namespace xcomposer
