#include "input/stop_strings.h"

#include <gtest/gtest.h>

#include <random>

#include "xcomposer/error.h"

namespace xcomposer {
namespace {

/// What stands before the string that is complete first; of those that end together, the longest.
std::string OneShot(const std::string& text, const std::vector<std::string>& stops) {
  for (size_t end = 1; end <= text.size(); ++end) {
    size_t longest = 0;
    for (const std::string& stop : stops) {
      if (!stop.empty() && text.substr(0, end).ends_with(stop))
        longest = std::max(longest, stop.size());
    }
    if (longest > 0) return text.substr(0, end - longest);
  }
  return text;
}

TEST(StopStrings, TheCutDoesNotDependOnTheParts) {
  std::mt19937 random(5);
  const auto word = [&](unsigned size) {
    std::string text;
    for (; size > 0; --size) text += "ab"[random() % 2];
    return text;
  };
  for (int round = 0; round < 20000; ++round) {
    std::vector<std::string> stops;
    for (auto n = random() % 4; n > 0; --n) stops.push_back(word(random() % 5));
    const std::string text = word(random() % 14);
    StopStrings stream(stops);
    std::string joined;
    for (size_t at = 0; at < text.size();) {
      const size_t size = 1 + random() % 3;
      joined += stream.Push(text.substr(at, size));
      at += size;
    }
    joined += stream.Finish();
    ASSERT_EQ(joined, OneShot(text, stops)) << text;
    ASSERT_EQ(stream.found().has_value(), joined != text);
  }
}

TEST(StopStrings, HoldsBackOnlyBeginnings) {
  StopStrings stops({"END", "\n\n"});
  EXPECT_EQ(stops.Push("aE"), "a");
  EXPECT_EQ(stops.Push("N"), "");
  EXPECT_EQ(stops.Push("x\n"), "ENx");
  EXPECT_EQ(stops.Push("END, more"), "\n");
  EXPECT_EQ(stops.found(), "END");
  EXPECT_EQ(stops.Push("more"), "");
  EXPECT_EQ(stops.Finish(), "");
}

TEST(StopStrings, WholeCharactersOnly) {
  StopStrings stops({"é"});
  EXPECT_EQ(stops.Push("è"), "è");
  EXPECT_THROW(StopStrings({"\xA9"}), Error);
}

}  // namespace
}  // namespace xcomposer
