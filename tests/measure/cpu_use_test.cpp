#include "measure/cpu_use.h"

#include "gmock/gmock.h"

namespace xcomposer::measure {
namespace {

TEST(CpuTimeTest, ReadsTheFirstLine) {
  const auto time =
      ParseCpuTime("cpu  100 20 30 400 50 6 7 80 90 10\ncpu0 1 2 3 4 5 6 7 8 9 10\n", 100);
  ASSERT_TRUE(time);
  EXPECT_DOUBLE_EQ(time->busy, 1.63);  // guests' 90 and 10 are within the first two
  EXPECT_DOUBLE_EQ(time->idle, 4.5);
  EXPECT_DOUBLE_EQ(time->stolen, 0.8);
  EXPECT_DOUBLE_EQ(time->all(), 6.93);
}

TEST(CpuTimeTest, OldSystemsHaveFourColumns) {
  const auto time = ParseCpuTime("cpu 1 2 3 4", 1);
  ASSERT_TRUE(time);
  EXPECT_EQ(time->busy, 6);
  EXPECT_EQ(time->stolen, 0);
}

TEST(CpuTimeTest, RefusesOtherTexts) {
  for (const char* text : {"", "cpu", "cpu 1 2 3", "cpu0 1 2 3 4", "intr 1 2 3 4", "cpu a b c d"}) {
    EXPECT_FALSE(ParseCpuTime(text, 100)) << text;
  }
  EXPECT_FALSE(ParseCpuTime("cpu 1 2 3 4", 0));
}

CpuTime At(double busy, double idle, double stolen) {
  return {.busy = busy, .idle = idle, .stolen = stolen};
}

TEST(CpuUseTest, ForeignIsWhatWeDidNotUse) {
  CpuUse use;
  EXPECT_FALSE(use.shares());
  use.Add(At(10, 100, 1), At(16, 103, 2), 4);  // of 10 s: 6 busy, 4 of them ours; 1 stolen
  ASSERT_TRUE(use.shares());
  EXPECT_DOUBLE_EQ(use.shares()->foreign, 0.2);
  EXPECT_DOUBLE_EQ(use.shares()->stolen, 0.1);
}

TEST(CpuUseTest, IntervalsAddUp) {
  CpuUse use;
  // Ticks are coarse: here we seem to have used more than there was, then less.
  use.Add(At(0, 0, 0), At(1, 0, 0), 1.5);
  EXPECT_EQ(use.shares()->foreign, 0);
  use.Add(At(5, 0, 0), At(8, 0, 0), 1.5);
  EXPECT_DOUBLE_EQ(use.shares()->foreign, 0.25);
}

TEST(CpuUseTest, StopNeedsAStart) {
  CpuUse use;
  use.Stop();
  EXPECT_FALSE(use.shares());
}

}  // namespace
}  // namespace xcomposer::measure
