#include "base/utf8.h"

namespace xcomposer {
namespace {

/// Bytes of a character and the range of its second byte, by the first byte (Unicode, table 3-7).
struct Form {
  int64_t length = 0;  // 0: no character begins so
  uint8_t low = 0x80;
  uint8_t high = 0xBF;
};

Form FormOf(uint8_t first) {
  if (first < 0x80) return {1};
  if (first < 0xC2) return {0};
  if (first < 0xE0) return {2};
  if (first == 0xE0) return {3, 0xA0, 0xBF};
  if (first == 0xED) return {3, 0x80, 0x9F};
  if (first < 0xF0) return {3};
  if (first == 0xF0) return {4, 0x90, 0xBF};
  if (first < 0xF4) return {4};
  if (first == 0xF4) return {4, 0x80, 0x8F};
  return {0};
}

/// str.isspace() of Python.
bool IsSpace(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
         c == 0x205F || c == 0x3000;
}

}  // namespace

Utf8Head ReadUtf8(std::string_view bytes) {
  if (bytes.empty()) return {};
  const auto first = static_cast<uint8_t>(bytes[0]);
  const Form form = FormOf(first);
  if (form.length == 0) return {};
  char32_t character = form.length == 1 ? first : first & (0x7F >> form.length);
  for (int64_t i = 1; i < form.length; ++i) {
    if (i == static_cast<int64_t>(bytes.size())) return {Utf8Head::Kind::kPrefix, i, 0};
    const auto byte = static_cast<uint8_t>(bytes[static_cast<size_t>(i)]);
    const uint8_t low = i == 1 ? form.low : 0x80;
    const uint8_t high = i == 1 ? form.high : 0xBF;
    if (byte < low || byte > high) return {};
    character = character << 6 | (byte & 0x3F);
  }
  return {Utf8Head::Kind::kCharacter, form.length, character};
}

bool IsValidUtf8(std::string_view text) {
  while (!text.empty()) {
    const Utf8Head head = ReadUtf8(text);
    if (head.kind != Utf8Head::Kind::kCharacter) return false;
    text.remove_prefix(static_cast<size_t>(head.length));
  }
  return true;
}

std::string_view StripLeft(std::string_view text) {
  for (;;) {
    const Utf8Head head = ReadUtf8(text);
    if (head.kind != Utf8Head::Kind::kCharacter || !IsSpace(head.character)) return text;
    text.remove_prefix(static_cast<size_t>(head.length));
  }
}

std::string_view StripRight(std::string_view text) {
  while (!text.empty()) {
    // White space has at most three bytes.
    size_t begin = text.size() - 1;
    while (begin > 0 && text.size() - begin < 3 && (text[begin] & 0xC0) == 0x80) --begin;
    const Utf8Head head = ReadUtf8(text.substr(begin));
    if (head.kind != Utf8Head::Kind::kCharacter ||
        head.length != static_cast<int64_t>(text.size() - begin) || !IsSpace(head.character)) {
      return text;
    }
    text = text.substr(0, begin);
  }
  return text;
}

}  // namespace xcomposer
