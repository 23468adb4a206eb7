#include "input/image_processor.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/checked_math.h"
#include "input/resample.h"

namespace xcomposer {
namespace {

void CheckPixels(const PixelView& image) {
  const auto pixels = CheckedMul(image.width, image.height);
  const auto bytes = pixels ? CheckedMul(*pixels, 3) : std::nullopt;
  Require(image.width > 0 && image.height > 0 && bytes &&
              *bytes == static_cast<int64_t>(image.rgb.size()),
          ErrorKind::kImage, "RGB pixels of a picture of ", image.width, " x ", image.height,
          " should be width * height * 3 bytes, found ", image.rgb.size());
}

}  // namespace

Picture PadWhite(const PixelView& content, const PictureLayout& layout) {
  Check(layout.content_x + content.width <= layout.width &&
            layout.content_y + content.height <= layout.height,
        "content beyond the padded picture");
  Picture out{layout.width, layout.height,
              std::vector<uint8_t>(static_cast<size_t>(layout.width * layout.height * 3), 255)};
  for (int64_t y = 0; y < content.height; ++y) {
    const uint8_t* from = content.rgb.data() + y * content.width * 3;
    const int64_t at = (layout.content_y + y) * layout.width + layout.content_x;
    std::copy_n(from, content.width * 3, out.rgb.data() + at * 3);
  }
  return out;
}

Picture ProcessPicture(const PixelView& image, const PictureRule& rule) {
  CheckPixels(image);
  const PictureLayout layout = LayoutFor(image.width, image.height, rule);
  if (rule.style == PictureRule::Style::kSquare) {
    return Resize(image, layout.width, layout.height, ResampleFilter::kBicubic);
  }
  // Portrait pictures are resized with swapped axes: the order of the two passes shows in the last
  // bit.
  if (layout.transposed) {
    const Picture turned = Resize(Transpose(image), layout.content_height, layout.content_width,
                                  ResampleFilter::kBilinear);
    return PadWhite(Transpose(turned), layout);
  }
  const Picture content =
      Resize(image, layout.content_width, layout.content_height, ResampleFilter::kBilinear);
  return PadWhite(content, layout);
}

}  // namespace xcomposer
