#include "input/tiling.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/check.h"
#include "base/checked_math.h"
#include "input/resample.h"

namespace xcomposer {
namespace {

constexpr int64_t kPatch = 14;
constexpr int64_t kMaxHdNum = 10000;
// A small limit on pictures must not refuse ordinary ones, which are enlarged.
constexpr int64_t kResizedAnyway = int64_t{1} << 24;

double Ratio(int64_t a, int64_t b) { return static_cast<double>(a) / static_cast<double>(b); }

/// Tiles along the long side: the most that keep the whole within hd_num, as the reference counts
/// them.
int64_t TilesAcross(double ratio, int64_t hd_num) {
  int64_t scale = 1;
  while (static_cast<double>(scale) * std::ceil(static_cast<double>(scale) / ratio) <=
         static_cast<double>(hd_num)) {
    ++scale;
  }
  return scale - 1;
}

/// A picture of a pixel's width and a million high would be resized by way of one of a tile's width
/// that is a million high.
void CheckResizing(const PictureSize& size, const PictureRule& rule) {
  const auto taken = ResizeScratchBytes(size, {rule.tile, rule.tile});
  const auto most = CheckedMul(std::max(rule.max_pixels, kResizedAnyway), 3);
  Require(!most || (taken && *taken <= *most), ErrorKind::kImage, "a picture of ", size.width,
          " x ", size.height, " pixels is too narrow to be resized to ", rule.tile, " x ",
          rule.tile, ": that takes ", taken ? StrCat(*taken) : "more than 2^63",
          " bytes on the way, at most ", most.value_or(0),
          " are accepted; crop it or make it smaller");
}

PictureLayout SquareLayout(const PictureRule& rule) {
  const int64_t side = rule.tile / kPatch;
  PictureLayout layout;
  layout.width = layout.height = layout.content_width = layout.content_height = rule.tile;
  layout.rows = side * side;
  return layout;
}

/// A picture at least as wide as high.
PictureLayout LandscapeLayout(int64_t width, int64_t height, const PictureRule& rule) {
  const double ratio = Ratio(width, height);
  int64_t scale = TilesAcross(ratio, rule.hd_num);
  if (rule.style == PictureRule::Style::k25) {
    scale = std::min(scale, static_cast<int64_t>(std::ceil(Ratio(width, rule.tile))));
  }
  PictureLayout layout;
  layout.content_width = rule.tile * scale;
  layout.content_height = static_cast<int64_t>(static_cast<double>(layout.content_width) / ratio);
  layout.tile_columns = scale;
  layout.tile_rows = (layout.content_height + rule.tile - 1) / rule.tile;
  layout.width = layout.content_width;
  layout.height = layout.tile_rows * rule.tile;
  if (rule.style == PictureRule::Style::k4khd) {
    layout.content_y = (layout.height - layout.content_height) / 2;
  }
  return layout;
}

PictureLayout Transposed(PictureLayout layout) {
  std::swap(layout.width, layout.height);
  std::swap(layout.content_x, layout.content_y);
  std::swap(layout.content_width, layout.content_height);
  std::swap(layout.tile_rows, layout.tile_columns);
  layout.transposed = true;
  return layout;
}

}  // namespace

PictureRule PictureRuleFor(std::string_view kind_name, int64_t img_size) {
  using Style = PictureRule::Style;
  const auto is = [&](std::string_view kind) {
    return kind_name == kind || (kind_name.starts_with(kind) && kind_name[kind.size()] == '-');
  };
  if (is("2-4khd-7b")) return {Style::k4khd, 336, 25};
  if (is("2.5-7b")) return {Style::k25, 560, 24};
  Require(is("2-7b") || is("2-vl-7b") || is("2-vl-1.8b"), ErrorKind::kConfig, "unknown kind '",
          kind_name, "', expected 2-7b, 2-vl-7b, 2-vl-1.8b, 2-4khd-7b or 2.5-7b");
  Require(img_size > 0 && img_size % kPatch == 0, ErrorKind::kConfig, "img_size is ", img_size,
          ", expected a positive multiple of ", kPatch);
  return {Style::kSquare, img_size, 1};
}

int64_t TiledRows(int64_t tile, int64_t tile_rows, int64_t tile_columns) {
  const int64_t m = tile / (2 * kPatch);
  return (tile_rows * tile_columns + 1) * m * m + 1 + (tile_rows + 1) * m;
}

PictureLayout LayoutFor(int64_t width, int64_t height, const PictureRule& rule) {
  Require(width > 0 && height > 0, ErrorKind::kImage, "the picture has no pixels: its size is ",
          width, " x ", height);
  if (rule.style == PictureRule::Style::kSquare) {
    CheckResizing({width, height}, rule);
    return SquareLayout(rule);
  }
  Require(rule.hd_num >= 1 && rule.hd_num <= kMaxHdNum, ErrorKind::kRequest, "hd_num is ",
          rule.hd_num, ", expected 1 to ", kMaxHdNum);
  PictureLayout layout = width < height ? Transposed(LandscapeLayout(height, width, rule))
                                        : LandscapeLayout(width, height, rule);
  Require(layout.content_width > 0 && layout.content_height > 0, ErrorKind::kImage, "a picture of ",
          width, " x ", height, " pixels is too narrow: resized to tiles of ", rule.tile,
          " with hd_num ", rule.hd_num, " its short side would vanish; crop it or raise hd_num");
  layout.rows = TiledRows(rule.tile, layout.tile_rows, layout.tile_columns);
  return layout;
}

}  // namespace xcomposer
