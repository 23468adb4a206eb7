#include "input/video.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/check.h"
#include "input/font.h"
#include "input/image_processor.h"
#include "input/pixel_modes.h"
#include "input/resample.h"

namespace xcomposer {
namespace {

constexpr int64_t kFrameSide = 1120;
constexpr int64_t kLabelHeight = 40;
constexpr int64_t kGap = 10;
constexpr int64_t kLineWidth = 2;
constexpr int64_t kMaxFrames = 32;

double Ratio(int64_t a, int64_t b) { return static_cast<double>(a) / static_cast<double>(b); }

FrameSize ResizedFrame(const FrameSize& original) {
  const double ratio = Ratio(original.width, original.height);
  FrameSize size{kFrameSide, kFrameSide};
  if (original.width > original.height) {
    size.height = static_cast<int64_t>(static_cast<double>(kFrameSide) / ratio);
  } else {
    size.width = static_cast<int64_t>(static_cast<double>(kFrameSide) * ratio);
  }
  Require(size.width > 0 && size.height > 0, ErrorKind::kImage, "a video frame of ", original.width,
          " x ", original.height, " pixels is too narrow: its short side would vanish");
  return size;
}

void Paste(const Picture& frame, int64_t left, int64_t top, Picture& canvas) {
  for (int64_t y = 0; y < frame.height; ++y) {
    std::copy_n(frame.rgb.data() + y * frame.width * 3, frame.width * 3,
                canvas.rgb.data() + ((top + y) * canvas.width + left) * 3);
  }
}

void FillBlack(int64_t left, int64_t top, const FrameSize& size, Picture& canvas) {
  const int64_t width = std::min(size.width, canvas.width - left);
  for (int64_t y = top; y < std::min(top + size.height, canvas.height); ++y) {
    std::fill_n(canvas.rgb.data() + (y * canvas.width + left) * 3, width * 3, uint8_t{0});
  }
}

/// Black ink over what is there.
void DrawText(const TextMask& text, const CanvasSlot& slot, Picture& canvas) {
  for (int64_t y = 0; y < text.height; ++y) {
    for (int64_t x = 0; x < text.width; ++x) {
      const int64_t column = slot.x + text.x + x;
      const int64_t row = slot.y + text.y + y;
      if (column < 0 || row < 0 || column >= canvas.width || row >= canvas.height) continue;
      const int paper = 255 - text.ink[y * text.width + x];
      uint8_t* pixel = canvas.rgb.data() + (row * canvas.width + column) * 3;
      for (int c = 0; c < 3; ++c) pixel[c] = static_cast<uint8_t>(MulDiv255(pixel[c], paper));
    }
  }
}

void DrawLines(const CanvasLayout& layout, Picture& canvas) {
  for (size_t i = 0; i + 1 < layout.slots.size(); ++i) {
    const CanvasSlot& slot = layout.slots[i];
    if (layout.stacked) {
      const int64_t y = slot.frame_y + slot.frame.height + kGap / 2;
      FillBlack(0, y, {canvas.width, kLineWidth}, canvas);
    } else {
      const int64_t x = slot.x + slot.frame.width + kGap / 2;
      FillBlack(x, 0, {kLineWidth, canvas.height}, canvas);
    }
  }
}

std::vector<TextMask> RenderLabels(int64_t count, const std::string& font_file) {
  std::vector<std::string> labels;
  for (int64_t i = 0; i < count; ++i) labels.push_back(StrCat("<IMAGE ", i, ">"));
  return RenderTexts(font_file, labels, kLabelHeight);
}

}  // namespace

std::vector<int64_t> SampleFrames(int64_t frame_count, double fps) {
  Require(frame_count > 0, ErrorKind::kImage, "the video has no frames");
  // Half a frame is rounded to even, like Python does.
  const double stride = std::nearbyint(fps);
  Require(std::isfinite(stride) && stride >= 1, ErrorKind::kImage, "the video's frame rate is ",
          fps, "; it must be above 0.5 frames a second");
  std::vector<int64_t> indices = {0};
  if (stride < static_cast<double>(frame_count)) {
    const auto step = static_cast<int64_t>(stride);
    for (int64_t i = step; i < frame_count; i += step) indices.push_back(i);
  }
  const auto count = static_cast<int64_t>(indices.size());
  if (count <= kMaxFrames) return indices;
  const double step = Ratio(count, kMaxFrames + 1);
  std::vector<int64_t> kept;
  for (int64_t i = 0; i < kMaxFrames; ++i) {
    kept.push_back(indices[static_cast<size_t>(static_cast<double>(i) * step)]);
  }
  return kept;
}

CanvasLayout CanvasLayoutFor(std::span<const FrameSize> originals) {
  Require(!originals.empty(), ErrorKind::kImage, "the video has no frames");
  CanvasLayout layout;
  layout.stacked = originals.back().width > originals.back().height;
  for (const FrameSize& original : originals) {
    const FrameSize frame = ResizedFrame(original);
    if (layout.stacked) {
      layout.slots.push_back({0, layout.height, layout.height + kLabelHeight, frame});
      layout.width = std::max(layout.width, frame.width);
      layout.height += frame.height + kGap + kLabelHeight;
    } else {
      layout.slots.push_back({layout.width, 0, kLabelHeight, frame});
      layout.width += frame.width + kGap;
      layout.height = std::max(layout.height, frame.height + kLabelHeight);
    }
  }
  return layout;
}

DrawnCanvas DrawVideoCanvas(const FrameFiles& video, const VideoOptions& options) {
  std::vector<FrameSize> sizes;
  std::vector<Picture> frames;
  for (const int64_t index : SampleFrames(static_cast<int64_t>(video.files.size()), video.fps)) {
    const DecodedImage image = LoadImage(video.files[index], options.limits);
    sizes.push_back({image.width, image.height});
    const FrameSize size = ResizedFrame(sizes.back());
    frames.push_back(Resize(image, size.width, size.height, ResampleFilter::kBilinear));
  }
  const CanvasLayout layout = CanvasLayoutFor(sizes);
  DrawnCanvas result;
  result.canvas = {
      layout.width, layout.height,
      std::vector<uint8_t>(static_cast<size_t>(layout.width * layout.height * 3), 255)};
  for (size_t i = 0; i < frames.size(); ++i) {
    Paste(frames[i], layout.slots[i].x, layout.slots[i].frame_y, result.canvas);
  }
  if (options.font_file.empty()) {
    result.warnings.push_back(
        "the labels \"<IMAGE i>\" of the video's frames are left out: no font was given");
  } else {
    const auto labels = RenderLabels(static_cast<int64_t>(frames.size()), options.font_file);
    for (size_t i = 0; i < labels.size(); ++i) DrawText(labels[i], layout.slots[i], result.canvas);
  }
  DrawLines(layout, result.canvas);
  return result;
}

PictureLayout CanvasPictureLayout(int64_t width, int64_t height, const PictureRule& rule) {
  Require(rule.style == PictureRule::Style::k25, ErrorKind::kRequest,
          "only the kind 2.5-7b takes videos");
  Require(width > 0 && height > 0, ErrorKind::kImage, "the video's canvas has no pixels");
  const bool portrait = width < height;
  const double ratio = portrait ? Ratio(height, width) : Ratio(width, height);
  const auto length = static_cast<int64_t>(static_cast<double>(rule.tile) * ratio);
  const int64_t tiles = (length + rule.tile - 1) / rule.tile;
  PictureLayout layout;
  layout.transposed = portrait;
  layout.tile_rows = portrait ? tiles : 1;
  layout.tile_columns = portrait ? 1 : tiles;
  layout.width = layout.tile_columns * rule.tile;
  layout.height = layout.tile_rows * rule.tile;
  layout.content_width = portrait ? rule.tile : length;
  layout.content_height = portrait ? length : rule.tile;
  layout.rows = TiledRows(rule.tile, layout.tile_rows, layout.tile_columns);
  return layout;
}

Picture ProcessCanvas(const PixelView& canvas, const PictureRule& rule) {
  const PictureLayout layout = CanvasPictureLayout(canvas.width, canvas.height, rule);
  constexpr auto kFilter = ResampleFilter::kBilinear;
  if (layout.transposed) {  // the order of the two passes shows in the last bit
    return PadWhite(
        Transpose(Resize(Transpose(canvas), layout.content_height, layout.content_width, kFilter)),
        layout);
  }
  return PadWhite(Resize(canvas, layout.content_width, layout.content_height, kFilter), layout);
}

}  // namespace xcomposer
