#include "base/large_pages.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstring>
#include <filesystem>

#include "support/memory_flags.h"

namespace xcomposer {
namespace {

using testing_support::FlagsAt;

constexpr size_t kBytes = size_t{8} << 20;

class LargePages : public testing::Test {
 protected:
  void SetUp() override {
    memory_ = static_cast<char*>(
        mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    ASSERT_NE(memory_, MAP_FAILED);
  }
  void TearDown() override { munmap(memory_, kBytes); }

  char* memory_ = nullptr;
};

TEST_F(LargePages, AreAskedForWherePagesAreWhole) {
  if (FlagsAt(memory_).empty()) GTEST_SKIP() << "the system does not show flags of memory";
  if (!std::filesystem::exists("/sys/kernel/mm/transparent_hugepage")) {
    GTEST_SKIP() << "the system has no large pages";
  }
  ASSERT_EQ(FlagsAt(memory_ + kBytes / 2).find(" hg "), std::string::npos);
  AskForLargePages(memory_ + 100, kBytes - 200);
  EXPECT_NE(FlagsAt(memory_ + kBytes / 2).find(" hg "), std::string::npos);
  // Not for the pages at the ends, which hold others' numbers too.
  EXPECT_EQ(FlagsAt(memory_).find(" hg "), std::string::npos);
  EXPECT_EQ(FlagsAt(memory_ + kBytes - 1).find(" hg "), std::string::npos);
}

TEST_F(LargePages, NumbersStayAndLittleMemoryIsLeftAlone) {
  std::memset(memory_, 7, kBytes);
  AskForLargePages(memory_, kBytes);
  AskForLargePages(memory_ + 1, 10);
  AskForLargePages(memory_ + 1, 0);
  AskForLargePages(nullptr, 0);
  for (size_t i = 0; i < kBytes; i += 511) ASSERT_EQ(memory_[i], 7);
}

}  // namespace
}  // namespace xcomposer
