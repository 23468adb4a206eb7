#include "checkpoint/fault.h"

#include <array>

#include "base/utf8.h"

namespace xcomposer {
namespace {

constexpr size_t kLongestQuote = 200;

std::string Printable(std::string_view text, size_t longest) {
  constexpr std::array<char, 17> kDigits = {"0123456789abcdef"};
  std::string out;
  size_t at = 0;
  while (at < text.size() && at < longest) {
    const Utf8Head head = ReadUtf8(text.substr(at));
    const auto lead = static_cast<unsigned char>(text[at]);
    // C1 controls (U+0080 to U+009F) steer terminals as well as C0 ones do.
    const bool control = head.character < 0x20 || (head.character >= 0x7f && head.character < 0xa0);
    if (head.kind != Utf8Head::Kind::kCharacter || control) {
      out += {'\\', 'x', kDigits[lead >> 4], kDigits[lead & 15]};
      // The rest of a two-byte control is a stray continuation byte and is escaped next.
      ++at;
    } else {
      out += text.substr(at, static_cast<size_t>(head.length));
      at += static_cast<size_t>(head.length);
    }
  }
  if (at < text.size()) out += "...";
  return out;
}

}  // namespace

std::string Quoted(std::string_view text) {
  return StrCat("'", Printable(text, kLongestQuote), "'");
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
