#include "api/stop_watcher.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>

#include "transport/in_process.h"

namespace xcomposer::api {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr std::chrono::seconds kPatience{30};

TEST(StopWatcher, EndsTheRunForAllRanksWhileOneWaits) {
  auto ranks = MakeInProcessTransports(2);
  std::atomic<bool> stop{false};
  const std::function<bool()> asked = [&] { return stop.load(); };
  const StopWatcher watcher(asked, ranks[0].get());
  std::thread user([&] { stop = true; });
  // As a rank that has loaded waits for one that has not.
  for (size_t rank : {0, 1}) {
    try {
      ranks[rank]->Receive(1 - static_cast<int>(rank), Channel::kControl,
                           steady_clock::now() + kPatience);
      ADD_FAILURE() << "nothing was thrown";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kCancelled);
      EXPECT_EQ(error.where().at("rank"), "0");
    }
  }
  user.join();
}

TEST(StopWatcher, AsksNoMoreOnceItHasEnded) {
  auto ranks = MakeInProcessTransports(2);
  std::atomic<int> asked{0};
  const std::function<bool()> stop = [&] { return ++asked < 0; };
  StopWatcher watcher(stop, ranks[0].get());
  while (asked == 0) std::this_thread::yield();
  watcher.End();
  const int before = asked;
  std::this_thread::sleep_for(milliseconds(250));
  EXPECT_EQ(asked, before);
  watcher.End();
  EXPECT_FALSE(ranks[1]->failure().has_value());
}

TEST(StopWatcher, WhatTheQuestionThrowsEndsTheRun) {
  auto ranks = MakeInProcessTransports(2);
  const std::function<bool()> broken = []() -> bool { throw std::runtime_error("no answer"); };
  const StopWatcher watcher(broken, ranks[0].get());
  const auto until = steady_clock::now() + kPatience;
  while (!ranks[1]->failure() && steady_clock::now() < until) std::this_thread::yield();
  ASSERT_TRUE(ranks[1]->failure().has_value());
  EXPECT_EQ(ranks[1]->failure()->kind(), ErrorKind::kInternal);
  EXPECT_EQ(ranks[1]->failure()->where().at("rank"), "0");
}

TEST(StopWatcher, NothingIsWatchedWhereNobodyAsksOrNothingRuns) {
  auto ranks = MakeInProcessTransports(2);
  const std::function<bool()> nobody;
  std::atomic<int> asked{0};
  const std::function<bool()> counts = [&] { return ++asked < 0; };
  {
    const StopWatcher of_nobody(nobody, ranks[0].get());
    const StopWatcher of_nothing(counts, nullptr);
    std::this_thread::sleep_for(milliseconds(50));  // the first question comes at once
  }
  EXPECT_EQ(asked, 0);
  EXPECT_FALSE(ranks[0]->failure().has_value());
}

}  // namespace
}  // namespace xcomposer::api
