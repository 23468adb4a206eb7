#pragma once

#include <cstdint>
#include <string_view>

#include "input/image_decoder.h"

namespace xcomposer {

/// How a checkpoint kind prepares a picture.
struct PictureRule {
  enum class Style {
    kSquare,  ///< 2-7b, 2-vl-7b, 2-vl-1.8b: one square view (the model specification, 4.2)
    k4khd,    ///< 2-4khd-7b: enlarged to at most hd_num tiles, padding on both sides (4.3)
    k25,      ///< 2.5-7b: never enlarged past the next tile, padding at the end (4.4)
  };
  Style style = Style::kSquare;
  int64_t tile = 490;  ///< side of a view in pixels, a multiple of 14 (tiled styles: of 28)
  int64_t hd_num = 1;  ///< largest number of tiles beside the global view; square: ignored
  /// Square: what resizing takes besides the picture and the result may be three bytes for each of
  /// so many pixels, 2^24 at least. Tiled: ignored.
  int64_t max_pixels = ImageLimits{}.max_pixels;
};

/// In 2.5 every request with more than one picture has this hd_num, whatever was asked for.
inline constexpr int64_t kHdNumOfSeveralPictures = 6;

/// The rule of a kind ("2-7b", "2-vl-7b", "2-vl-1.8b", "2-4khd-7b", "2.5-7b"; a suffix after these,
/// such as "-4bit", changes nothing) with the hd_num that its `chat` uses: 25 for 2-4khd-7b, 24
/// for 2.5-7b. `img_size` is the square kinds' size from config.json and ignored by the others.
/// Throws Error(kConfig) for an unknown kind or an img_size that is no positive multiple of 14.
PictureRule PictureRuleFor(std::string_view kind_name, int64_t img_size);

/// Where everything goes, without looking at a pixel.
struct PictureLayout {
  int64_t width = 0;  ///< of the picture given to the vision tower, padding included
  int64_t height = 0;
  int64_t content_x = 0;  ///< the resized picture inside of it
  int64_t content_y = 0;
  int64_t content_width = 0;
  int64_t content_height = 0;
  bool transposed = false;   ///< resized with swapped axes (portrait pictures of the tiled styles)
  int64_t tile_rows = 1;     ///< h
  int64_t tile_columns = 1;  ///< w
  int64_t rows = 0;          ///< visual tokens in the sequence, separators included
};

/// The layout of a picture of the given size. Throws Error(kImage) where the reference cannot go
/// on, for a picture so narrow that it would be resized to nothing; for one of a square kind that
/// is so narrow that resizing it would take more than the rule allows; Error(kRequest) for an
/// hd_num outside 1..10000.
PictureLayout LayoutFor(int64_t width, int64_t height, const PictureRule& rule);

/// Visual tokens of a padded picture of h x w tiles (the model specification, 3.5):
/// (h w + 1) m^2 + 1 + (h + 1) m with m = tile / 28.
int64_t TiledRows(int64_t tile, int64_t tile_rows, int64_t tile_columns);

}  // namespace xcomposer
