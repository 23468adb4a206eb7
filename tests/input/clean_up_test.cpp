#include "input/clean_up.h"

#include <gtest/gtest.h>

#include <random>

namespace xcomposer {
namespace {

/// str.replace() of Python.
std::string Replaced(const std::string& text, std::string_view from, std::string_view to) {
  std::string out;
  size_t begin = 0;
  for (size_t at = text.find(from); at != text.npos; at = text.find(from, begin)) {
    out += text.substr(begin, at - begin);
    out += to;
    begin = at + from.size();
  }
  return out + text.substr(begin);
}

std::string OneShot(std::string text) {
  for (const std::string mark : {".", "?", "!", ","}) text = Replaced(text, " " + mark, mark);
  text = Replaced(text, " ' ", "'");
  for (const std::string tail : {"n't", "'m", "'s", "'ve", "'re"})
    text = Replaced(text, " " + tail, tail);
  return text;
}

TEST(CleanUp, TextInPartsBecomesWhatTheWholeTextBecomes) {
  std::mt19937 random(3);
  const std::string parts[] = {" ",   " ", "'", ".",  "?",  "!", ",",
                               "n't", "m", "s", "ve", "re", "é", "\n"};
  for (int round = 0; round < 20000; ++round) {
    CleanUp clean_up;
    std::string whole;
    std::string joined;
    for (auto n = random() % 16; n > 0; --n) {
      const std::string& part = parts[random() % std::size(parts)];
      whole += part;
      joined += clean_up.Push(part);
    }
    joined += clean_up.Finish();
    ASSERT_EQ(joined, OneShot(whole)) << "'" << whole << "'";
  }
}

TEST(CleanUp, HoldsBackOnlyWhatMayChange) {
  CleanUp clean_up;
  EXPECT_EQ(clean_up.Push("isn"), "isn");
  EXPECT_EQ(clean_up.Push(" "), "");
  EXPECT_EQ(clean_up.Push("n"), "");
  EXPECT_EQ(clean_up.Push("o"), " no");
  EXPECT_EQ(clean_up.Push(" n'"), "");
  EXPECT_EQ(clean_up.Push("t"), "n't");
  EXPECT_EQ(clean_up.Push("."), ".");
}

TEST(StreamReplacer, MatchesDoNotOverlap) {
  StreamReplacer replacer("aba", "x");
  std::string out;
  for (const char c : std::string("abababaab")) out += replacer.Push(std::string(1, c));
  EXPECT_EQ(out + replacer.Finish(), "xbxab");
}

TEST(StreamReplacer, AMatchMayBeginInsideAFailedOne) {
  StreamReplacer replacer("aab", "x");
  EXPECT_EQ(replacer.Push("aaa"), "a");
  EXPECT_EQ(replacer.Push("b"), "x");
  EXPECT_EQ(replacer.Push("aa"), "");
  EXPECT_EQ(replacer.Finish(), "aa");
}

}  // namespace
}  // namespace xcomposer
