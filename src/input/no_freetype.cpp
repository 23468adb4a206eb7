#include "base/check.h"
#include "input/font.h"

namespace xcomposer {

bool HasFontRenderer() { return false; }

std::vector<TextMask> RenderTexts(const std::string& font_file, const std::vector<std::string>&,
                                  int64_t) {
  throw Error(ErrorKind::kRequest,
              StrCat("the font '", font_file,
                     "' cannot be used: this build has no FreeType. Leave the "
                     "font out, or rebuild with XCOMPOSER_WITH_FREETYPE=ON"),
              {{"font", font_file}});
}

}  // namespace xcomposer
