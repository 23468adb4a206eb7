#include "base/utf8.h"

#include <gtest/gtest.h>

#include <string>

namespace xcomposer {
namespace {

std::string Encoded(char32_t c) {
  if (c < 0x80) return {static_cast<char>(c)};
  std::string tail;
  char32_t limit = 0x40;
  while (c >= limit || tail.empty()) {
    tail.insert(tail.begin(), static_cast<char>(0x80 | (c & 0x3F)));
    c >>= 6;
    limit = tail.size() == 1 ? 0x20 : tail.size() == 2 ? 0x10 : 0x08;
    if (c < limit) break;
  }
  const int lead = tail.size() == 1 ? 0xC0 : tail.size() == 2 ? 0xE0 : 0xF0;
  return static_cast<char>(lead | static_cast<int>(c)) + tail;
}

TEST(Utf8, EveryCharacterIsReadAndItsBeginningsAreRecognised) {
  for (char32_t c = 0; c <= 0x10FFFF; c += c < 0x900 ? 1 : 97) {
    if (c >= 0xD800 && c < 0xE000) continue;
    const std::string bytes = Encoded(c);
    const Utf8Head head = ReadUtf8(bytes + "x");
    ASSERT_EQ(head.kind, Utf8Head::Kind::kCharacter) << static_cast<uint32_t>(c);
    ASSERT_EQ(head.length, static_cast<int64_t>(bytes.size()));
    ASSERT_EQ(head.character, c);
    for (size_t size = 1; size < bytes.size(); ++size) {
      ASSERT_EQ(ReadUtf8(bytes.substr(0, size)).kind, Utf8Head::Kind::kPrefix);
      ASSERT_EQ(ReadUtf8(bytes.substr(0, size) + "x").kind, Utf8Head::Kind::kInvalid);
    }
  }
}

TEST(Utf8, OverlongSurrogateAndTooLargeFormsAreInvalid) {
  for (const char* bytes : {"\x80", "\xBF", "\xC0\x80", "\xC1\xBF", "\xE0\x9F\xBF", "\xED\xA0\x80",
                            "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80", "\xF5", "\xFF"}) {
    EXPECT_EQ(ReadUtf8(bytes).kind, Utf8Head::Kind::kInvalid) << bytes;
    EXPECT_FALSE(IsValidUtf8(bytes));
  }
  for (const char* bytes :
       {"\xC3", "a\xE4\xBD", "\xE0\x80\x80", "\xF0\x80\x80\x80", "\xF5\x80\x80\x80"}) {
    EXPECT_FALSE(IsValidUtf8(bytes)) << bytes;
  }
  for (const char* text : {"\xC2\xA9", "\xED\x9F\xBF"}) EXPECT_TRUE(IsValidUtf8(text)) << text;
  EXPECT_TRUE(IsValidUtf8("a你🙂"));
  EXPECT_TRUE(IsValidUtf8(""));
}

TEST(Utf8, StripRemovesWhatPythonCallsWhiteSpace) {
  const std::string space =
      "\t\n\v\f\r\x1C\x1D\x1E\x1F \u0085\u00A0\u1680\u2000\u200A\u2028\u2029"
      "\u202F\u205F\u3000";
  EXPECT_EQ(StripLeft(space + "你" + space), "你" + space);
  EXPECT_EQ(StripRight(space + "你" + space), space + "你");
  EXPECT_EQ(StripLeft(space), "");
  EXPECT_EQ(StripRight(space), "");
  for (const std::string text : {"\u200B", "\u180E", "\u2060", "\uFEFF", "\xA0", "\x1B"}) {
    EXPECT_EQ(StripLeft(text), text);
    EXPECT_EQ(StripRight(text), text);
  }
}

}  // namespace
}  // namespace xcomposer
