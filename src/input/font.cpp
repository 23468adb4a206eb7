#include "input/font.h"

#include <ft2build.h>
#include FT_FREETYPE_H

#include <algorithm>
#include <memory>
#include <type_traits>

#include "base/check.h"

namespace xcomposer {
namespace {

struct Done {
  void operator()(FT_Library library) const { FT_Done_FreeType(library); }
  void operator()(FT_Face face) const { FT_Done_Face(face); }
};
using LibraryHandle = std::unique_ptr<std::remove_pointer_t<FT_Library>, Done>;
using FaceHandle = std::unique_ptr<std::remove_pointer_t<FT_Face>, Done>;

constexpr int64_t ToPixels(FT_Pos position) { return (position + 32) >> 6; }

/// Widens `mask` so that the rectangle fits, keeping what is drawn.
void Grow(TextMask& mask, int64_t left, int64_t top, int64_t width, int64_t height) {
  TextMask wider;
  const bool empty = mask.ink.empty();
  wider.x = empty ? left : std::min(mask.x, left);
  wider.y = empty ? top : std::min(mask.y, top);
  wider.width = std::max(empty ? 0 : mask.x + mask.width, left + width) - wider.x;
  wider.height = std::max(empty ? 0 : mask.y + mask.height, top + height) - wider.y;
  wider.ink.resize(static_cast<size_t>(wider.width * wider.height));
  for (int64_t y = 0; y < mask.height; ++y) {
    const int64_t at = (mask.y - wider.y + y) * wider.width + mask.x - wider.x;
    std::copy_n(mask.ink.data() + y * mask.width, mask.width, wider.ink.data() + at);
  }
  mask = std::move(wider);
}

void DrawGlyph(const FT_Bitmap& bitmap, int64_t left, int64_t top, TextMask& mask) {
  if (bitmap.width == 0 || bitmap.rows == 0 || bitmap.pixel_mode != FT_PIXEL_MODE_GRAY) return;
  Grow(mask, left, top, bitmap.width, bitmap.rows);
  for (int64_t y = 0; y < bitmap.rows; ++y) {
    const uint8_t* from = bitmap.buffer + y * bitmap.pitch;
    uint8_t* to = mask.ink.data() + (top - mask.y + y) * mask.width + left - mask.x;
    for (int64_t x = 0; x < bitmap.width; ++x) to[x] = std::max(to[x], from[x]);
  }
}

TextMask RenderText(FT_Face face, const std::string& text) {
  TextMask mask;
  FT_Pos pen = 0;
  FT_UInt previous = 0;
  const int64_t ascender = ToPixels(face->size->metrics.ascender);
  for (const char c : text) {
    const FT_UInt glyph =
        FT_Get_Char_Index(face, static_cast<FT_ULong>(static_cast<unsigned char>(c)));
    FT_Vector kerning{};
    if (previous != 0 && glyph != 0 && FT_HAS_KERNING(face) &&
        FT_Get_Kerning(face, previous, glyph, FT_KERNING_DEFAULT, &kerning) == 0) {
      pen += kerning.x;
    }
    if (FT_Load_Glyph(face, glyph, FT_LOAD_DEFAULT | FT_LOAD_NO_BITMAP | FT_LOAD_RENDER) != 0)
      continue;
    const FT_GlyphSlot slot = face->glyph;
    DrawGlyph(slot->bitmap, ToPixels(pen) + slot->bitmap_left, ascender - slot->bitmap_top, mask);
    pen += slot->linearHoriAdvance >> 10;  // 16.16 to 26.6: positions are not hinted, shapes are
    previous = glyph;
  }
  return mask;
}

}  // namespace

bool HasFontRenderer() { return true; }

std::vector<TextMask> RenderTexts(const std::string& font_file,
                                  const std::vector<std::string>& texts, int64_t pixels) {
  const auto require = [&](FT_Error code, const char* what) {
    if (code == 0) return;
    throw Error(ErrorKind::kRequest,
                StrCat("the font '", font_file, "' ", what, " (FreeType error ", code,
                       "); expected a TrueType or OpenType file"),
                {{"font", font_file}});
  };
  FT_Library raw_library = nullptr;
  require(FT_Init_FreeType(&raw_library), "cannot be used: FreeType did not start");
  const LibraryHandle library(raw_library);
  FT_Face raw_face = nullptr;
  require(FT_New_Face(raw_library, font_file.c_str(), 0, &raw_face), "cannot be read");
  const FaceHandle face(raw_face);
  require(FT_Set_Pixel_Sizes(raw_face, 0, static_cast<FT_UInt>(pixels)), "has no such size");
  std::vector<TextMask> masks;
  for (const std::string& text : texts) masks.push_back(RenderText(raw_face, text));
  return masks;
}

}  // namespace xcomposer
