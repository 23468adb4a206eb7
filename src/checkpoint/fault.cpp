#include "checkpoint/fault.h"

#include <array>

namespace xcomposer {
namespace {

constexpr size_t kLongestQuote = 200;

// The length of the well-formed UTF-8 sequence at the start of `text`, or 0.
size_t Utf8Length(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return 1;
  const size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || text.size() < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
  }
  const bool overlong = (lead == 0xe0 && byte(1) < 0xa0) || (lead == 0xf0 && byte(1) < 0x90);
  const bool surrogate = lead == 0xed && byte(1) >= 0xa0;
  const bool beyond = lead == 0xf4 && byte(1) >= 0x90;
  return overlong || surrogate || beyond ? 0 : length;
}

std::string Printable(std::string_view text, size_t longest) {
  constexpr std::array<char, 17> kDigits = {"0123456789abcdef"};
  std::string out;
  size_t at = 0;
  while (at < text.size() && at < longest) {
    const size_t length = Utf8Length(text.substr(at));
    const auto lead = static_cast<unsigned char>(text[at]);
    // C1 controls (U+0080 to U+009F) steer terminals as well as C0 ones do.
    const bool control =
        lead < 0x20 || lead == 0x7f ||
        (length == 2 && lead == 0xc2 && static_cast<unsigned char>(text[at + 1]) < 0xa0);
    if (length == 0 || control) {
      out += {'\\', 'x', kDigits[lead >> 4], kDigits[lead & 15]};
      // The rest of a two-byte control is a stray continuation byte and is escaped next.
      ++at;
    } else {
      out += text.substr(at, length);
      at += length;
    }
  }
  if (at < text.size()) out += "...";
  return out;
}

}  // namespace

std::string Quoted(std::string_view text) {
  return StrCat("'", Printable(text, kLongestQuote), "'");
}

bool IsUtf8(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    const size_t length = Utf8Length(text.substr(at));
    if (length == 0) return false;
    at += length;
  }
  return true;
}

void RefuseText(const Place& place, const std::string& message) {
  const std::string file = Printable(place.file, std::string::npos);
  std::string text = file;
  Error::Where where;
  if (!file.empty()) {
    where["file"] = file;
    text += ": ";
  }
  if (!place.part.empty()) {
    where["part"] = Printable(place.part, kLongestQuote);
    text += where["part"];
    text += place.offset >= 0 ? ", " : ": ";
  }
  if (place.offset >= 0) {
    where["offset"] = StrCat(place.offset);
    text += StrCat("byte ", place.offset, ": ");
  }
  if (!place.tensor.empty()) {
    where["tensor"] = Printable(place.tensor, kLongestQuote);
    text += StrCat("tensor ", Quoted(place.tensor), ": ");
  }
  throw Error(ErrorKind::kCheckpoint, text + message, std::move(where));
}

}  // namespace xcomposer
