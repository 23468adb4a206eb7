#include "base/large_pages.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

namespace xcomposer {
namespace {

constexpr size_t kBytes = size_t{8} << 20;

/// The flags that the system shows for the memory around `address`; empty where it shows none.
std::string FlagsAt(const void* address) {
  std::ifstream maps("/proc/self/smaps");
  bool here = false;
  for (std::string line; std::getline(maps, line);) {
    uintptr_t begin = 0;
    uintptr_t end = 0;
    char dash = 0;
    std::istringstream text(line);
    if (text >> std::hex >> begin >> dash >> end && dash == '-') {
      const auto place = reinterpret_cast<uintptr_t>(address);
      here = begin <= place && place < end;
    }
    if (here && line.rfind("VmFlags:", 0) == 0) return line + " ";
  }
  return "";
}

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
