// Arbitrary bytes as an encoded picture. What is decoded has the size it claims, and goes through
// the layouts of every kind; everything else is an error about a picture.
#include <cstdint>
#include <cstdlib>
#include <span>

#include "input/image_decoder.h"
#include "input/tiling.h"
#include "xcomposer/error.h"

namespace {

using xcomposer::Error;
using xcomposer::ErrorKind;

constexpr xcomposer::ImageLimits kLimits{.max_pixels = 1 << 16, .max_bytes = 1 << 20};

void Demand(bool holds) {
  if (!holds) std::abort();
}

void CheckLayout(int64_t width, int64_t height, const char* kind) {
  try {
    const xcomposer::PictureRule rule = xcomposer::PictureRuleFor(kind, 224);
    const xcomposer::PictureLayout layout = xcomposer::LayoutFor(width, height, rule);
    Demand(layout.content_width > 0 && layout.content_height > 0);
    Demand(layout.content_x + layout.content_width <= layout.width);
    Demand(layout.content_y + layout.content_height <= layout.height);
  } catch (const Error& error) {
    Demand(error.kind() == ErrorKind::kImage);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const auto image =
        xcomposer::DecodeImage(std::as_bytes(std::span(data, size)), kLimits, "fuzz");
    Demand(image.width > 0 && image.height > 0 && image.width * image.height <= kLimits.max_pixels);
    Demand(static_cast<int64_t>(image.rgb.size()) == image.width * image.height * 3);
    for (const char* kind : {"2-7b", "2-4khd-7b", "2.5-7b"}) {
      CheckLayout(image.width, image.height, kind);
    }
  } catch (const Error& error) {
    Demand(error.kind() == ErrorKind::kImage);
  }
  return 0;
}
