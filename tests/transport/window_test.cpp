#include "transport/window.h"

#include <gtest/gtest.h>

#include <thread>

#include "xcomposer/error.h"

namespace xcomposer {
namespace {

using std::chrono::milliseconds;

TimePoint Now() { return std::chrono::steady_clock::now(); }

TEST(Window, OneFrameAlwaysFitsAndMoreOnlyWithinTheLimits) {
  const WindowLimits limits{100, 3};
  EXPECT_TRUE(FitsWindow(limits, {0, 0}, 1000));
  EXPECT_TRUE(FitsWindow(limits, {60, 1}, 40));
  EXPECT_FALSE(FitsWindow(limits, {60, 1}, 41));
  EXPECT_FALSE(FitsWindow(limits, {0, 3}, 0));
  EXPECT_FALSE(FitsWindow(limits, {1000, 1}, 0));
  EXPECT_FALSE(FitsWindow(limits, {60, 1}, UINT64_MAX));  // no overflow
}

TEST(Window, TheSenderWaitsUntilEnoughIsTaken) {
  const WindowLimits limits{100, 10};
  SendWindow window;
  EXPECT_TRUE(window.Reserve(limits, 80, Now()));
  EXPECT_FALSE(window.Reserve(limits, 30, Now() + milliseconds(5)));
  std::thread receiver([&] { window.Acknowledge({80, 1}); });
  EXPECT_TRUE(window.Reserve(limits, 30, Now() + std::chrono::seconds(20)));
  receiver.join();
}

TEST(Window, ClosingEndsEveryWait) {
  SendWindow window;
  EXPECT_TRUE(window.Reserve({1, 1}, 1, Now()));
  std::thread closer([&] { window.Close(); });
  EXPECT_FALSE(window.Reserve({1, 1}, 1, Now() + std::chrono::seconds(20)));
  closer.join();
  window.Acknowledge({1, 1});
  EXPECT_FALSE(window.Reserve({1, 1}, 1, Now()));
}

TEST(Window, CreditThatWasNeverSpentIsRefused) {
  SendWindow window;
  EXPECT_TRUE(window.Reserve({100, 10}, 50, Now()));
  EXPECT_THROW(window.Acknowledge({51, 1}), Error);
  EXPECT_THROW(window.Acknowledge({50, 2}), Error);
  window.Acknowledge({50, 1});
  EXPECT_THROW(window.Acknowledge({49, 1}), Error);  // never goes back
}

TEST(Window, TheReceiverTellsOnceAQuarterIsTaken) {
  const WindowLimits limits{100, 1000};
  ReceiveLedger ledger;
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(ledger.Arrived(limits, 20));
  EXPECT_FALSE(ledger.Taken(limits, 20).has_value());
  const std::optional<WindowCount> told = ledger.Taken(limits, 20);
  ASSERT_TRUE(told.has_value());
  EXPECT_EQ(told->bytes, 40U);
  EXPECT_EQ(told->frames, 2U);
}

TEST(Window, FramesOfAnySizeNeverStall) {
  const WindowLimits limits{100, 10};
  for (const uint64_t first : {0, 1, 24, 25, 60}) {
    for (const uint64_t second : {76, 95, 100, 1000}) {
      SendWindow window;
      ReceiveLedger ledger;
      for (const uint64_t bytes : {first, second, first, second, second}) {
        ASSERT_TRUE(window.Reserve(limits, bytes, Now())) << first << " then " << second;
        ASSERT_TRUE(ledger.Arrived(limits, bytes));
        if (const auto told = ledger.Taken(limits, bytes)) window.Acknowledge(*told);
      }
    }
  }
}

TEST(Window, SmallWindowsNeverStall) {
  // Whatever is sent up to the limit is told of before the sender would wait for ever.
  for (uint64_t frames = 1; frames <= 9; ++frames) {
    for (uint64_t bytes = 1; bytes <= 40; bytes += 3) {
      const WindowLimits limits{bytes, frames};
      SendWindow window;
      ReceiveLedger ledger;
      uint64_t on_the_way = 0;
      for (int i = 0; i < 30; ++i) {
        while (window.Reserve(limits, 7, Now())) {
          ASSERT_TRUE(ledger.Arrived(limits, 7));
          ++on_the_way;
        }
        ASSERT_GT(on_the_way, 0U) << frames << " frames, " << bytes << " bytes: stalled";
        --on_the_way;
        if (const auto told = ledger.Taken(limits, 7)) window.Acknowledge(*told);
      }
    }
  }
}

TEST(Window, ASenderThatIgnoresTheWindowIsFound) {
  const WindowLimits limits{100, 2};
  ReceiveLedger ledger;
  EXPECT_TRUE(ledger.Arrived(limits, 10));
  EXPECT_TRUE(ledger.Arrived(limits, 10));
  EXPECT_FALSE(ledger.Arrived(limits, 10));
}

}  // namespace
}  // namespace xcomposer
