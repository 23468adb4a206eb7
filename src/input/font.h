#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace xcomposer {

/// Rendered text: how much ink covers each pixel, 0 to 255.
struct TextMask {
  int64_t x = 0;  ///< of the mask's corner, relative to the point where the text starts
  int64_t y = 0;  ///< relative to the top of the line (the font's ascender)
  int64_t width = 0;
  int64_t height = 0;
  std::vector<uint8_t> ink;  ///< (height, width)
};

/// True where this build can draw text (FreeType was found).
bool HasFontRenderer();

/// Draws each of `texts` (ASCII, one line) with the font file, `pixels` high, hinted and
/// antialiased like Pillow draws it (the same glyphs at whole pixels; versions of FreeType differ
/// by shades of gray). Throws Error(kRequest) for a file that is no font, and where
/// HasFontRenderer() is false.
std::vector<TextMask> RenderTexts(const std::string& font_file,
                                  const std::vector<std::string>& texts, int64_t pixels);

}  // namespace xcomposer
