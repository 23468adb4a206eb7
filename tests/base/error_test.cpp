#include "xcomposer/error.h"

#include <gtest/gtest.h>

#include "base/check.h"
#include "base/log.h"

namespace xcomposer {
namespace {

TEST(Error, CarriesKindMessageAndPlace) {
  try {
    Require(false, ErrorKind::kCheckpoint, "expected ", 3, ", found ", 4);
    FAIL() << "Require did not throw";
  } catch (const Error& error) {
    const Error placed = error.With("file", "a.bin");
    EXPECT_EQ(placed.kind(), ErrorKind::kCheckpoint);
    EXPECT_STREQ(placed.what(), "expected 3, found 4");
    EXPECT_EQ(placed.where().at("file"), "a.bin");
  }
}

TEST(Error, TheFirstPlaceOfAKeyIsKept) {
  const Error error(ErrorKind::kImage, "broken", {{"file", "inner"}});
  EXPECT_EQ(error.With("file", "outer").where().at("file"), "inner");
}

TEST(Error, EveryKindHasItsOwnWord) {
  std::map<std::string, int> words;
  for (int kind = 0; kind <= static_cast<int>(ErrorKind::kInternal); ++kind) {
    ++words[ToString(static_cast<ErrorKind>(kind))];
  }
  EXPECT_EQ(words.size(), 15u);
}

TEST(Log, AnUnknownLevelIsAUsageError) {
  try {
    log::ParseLevel("loud");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUsage);
  }
}

}  // namespace
}  // namespace xcomposer
