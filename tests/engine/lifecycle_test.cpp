#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "engine/scheduler_fixture.h"

/// Submit, await, cancel, deadlines, shutdown: every order in which they can come.
namespace xcomposer {
namespace {

using namespace testing;  // the fixture of this folder
using Clock = std::chrono::steady_clock;

/// The executor waits at each batch for the test.
class LifecycleTest : public ::testing::Test {
 protected:
  LifecycleTest() {
    auto executor = std::make_unique<StandInExecutor>(SmallLimits());
    executor->before_forward = [this](const Batch&) {
      gate_.Pass();
      std::this_thread::sleep_until(busy_until_.load());
    };
    scheduler_ = std::make_unique<Scheduler>(std::move(executor), OptionsWithBase());
  }
  ~LifecycleTest() override { gate_.Open(); }

  static Job Endless() { return TextJob({1, 2, 3}, Greedy(400)); }

  ErrorKind KindOf(const std::function<void()>& call) {
    try {
      call();
    } catch (const Error& error) {
      return error.kind();
    }
    return ErrorKind::kInternal;
  }

  Gate gate_;
  std::atomic<Clock::time_point> busy_until_{};  // no batch is ready before
  std::unique_ptr<Scheduler> scheduler_;
};

TEST_F(LifecycleTest, ARunningJobIsCancelledWithWhatItHas) {
  const JobId id = scheduler_->Submit(Endless());
  gate_.Allow(2);
  gate_.AwaitArrival(3);  // two batches are through: two ids
  EXPECT_TRUE(scheduler_->Cancel(id));
  EXPECT_FALSE(scheduler_->Cancel(id)) << "asked before";
  gate_.Open();
  const Outcome outcome = WaitFor(*scheduler_, id);
  ASSERT_TRUE(outcome.result);
  EXPECT_EQ(outcome.result->finish, JobFinish::kCancelled);
  EXPECT_EQ(outcome.result->output_ids.size(), 3u);  // the batch under way was finished
  EXPECT_FALSE(scheduler_->Cancel(id)) << "over";
  EXPECT_EQ(scheduler_->stats().free_kv_blocks, 200);
}

TEST_F(LifecycleTest, BeamsAreCancelledWithTheBestSoFar) {
  Job job = Endless();
  job.search.num_beams = 3;
  job.search.max_new_tokens = 100;
  const JobId id = scheduler_->Submit(std::move(job));
  gate_.Allow(2);
  gate_.AwaitArrival(3);
  scheduler_->Cancel(id);
  gate_.Open();
  const Outcome outcome = WaitFor(*scheduler_, id);
  EXPECT_EQ(outcome.result->finish, JobFinish::kCancelled);
  EXPECT_EQ(outcome.result->output_ids.size(), 3u);
  EXPECT_EQ(scheduler_->stats().free_kv_blocks, 200);
}

TEST_F(LifecycleTest, AQueuedJobIsCancelledBeforeItRuns) {
  Job large = Endless();
  large.search.max_new_tokens = 700;  // takes most blocks
  const JobId first = scheduler_->Submit(std::move(large));
  gate_.AwaitArrival();
  Job waiting = Endless();
  const JobId second = scheduler_->Submit(std::move(waiting));
  EXPECT_EQ(scheduler_->stats().queued, 1);
  EXPECT_TRUE(scheduler_->Cancel(second));
  gate_.Allow(2);
  const Outcome outcome = WaitFor(*scheduler_, second);
  EXPECT_EQ(outcome.result->finish, JobFinish::kCancelled);
  EXPECT_TRUE(outcome.result->output_ids.empty());
  scheduler_->Cancel(first);
  gate_.Open();
  WaitFor(*scheduler_, first);
}

TEST_F(LifecycleTest, ADeadlineEndsAWaitingJob) {
  Job late = Endless();
  late.deadline = Clock::now() - std::chrono::seconds(1);
  const Outcome never = RunJob(*scheduler_, std::move(late));
  ASSERT_TRUE(never.result);
  EXPECT_EQ(never.result->finish, JobFinish::kDeadline);
  EXPECT_TRUE(never.result->output_ids.empty());
  EXPECT_EQ(scheduler_->stats().batches, 0);
}

TEST_F(LifecycleTest, ADeadlineEndsARunningJobWithWhatItHas) {
  gate_.Open();
  WithADeadline([this](Clock::time_point deadline) {
    busy_until_ = deadline;  // the first batch ends when it is too late
    Job soon = Endless();
    soon.deadline = deadline;
    const JobResult result = RunJob(*scheduler_, std::move(soon)).result.value();
    EXPECT_EQ(result.finish, JobFinish::kDeadline);
    EXPECT_LE(result.output_ids.size(), 1u);
    return result.output_ids.size() == 1;
  });
}

TEST_F(LifecycleTest, AwaitReturnsNothingWhenNothingComesInTime) {
  const JobId id = scheduler_->Submit(Endless());
  EXPECT_FALSE(scheduler_->Await(id, std::chrono::milliseconds(1)));
  EXPECT_FALSE(scheduler_->Await(id, std::chrono::nanoseconds::min()));
  gate_.Allow(1);
  EXPECT_TRUE(scheduler_->Await(id, std::chrono::nanoseconds::max()));
}

/// Calls the scheduler as it is destroyed, as a connection does whose requests go with it.
struct Canceller {
  Scheduler* scheduler;
  JobId other;
  std::atomic<int>* gone;
  ~Canceller() {
    scheduler->Cancel(other);
    ++*gone;
  }
};

TEST_F(LifecycleTest, WhatACallbackHoldsMayCallTheSchedulerAsItGoes) {
  const JobId other = scheduler_->Submit(Endless());
  std::atomic<int> gone{0};
  Job one = Endless();
  one.search.max_new_tokens = 1;
  scheduler_->Submit(std::move(one), [held = std::make_shared<Canceller>(
                                          scheduler_.get(), other, &gone)](const JobEvent&) {});
  gate_.Open();
  const Outcome outcome = WaitFor(*scheduler_, other);
  EXPECT_EQ(outcome.result->finish, JobFinish::kCancelled);
  EXPECT_EQ(gone, 1);
}

TEST_F(LifecycleTest, IdsThatWereNeverGivenOutAreAnError) {
  const JobId id = scheduler_->Submit(Endless());
  for (const JobId unknown : {JobId{0}, JobId{-1}, id + 1}) {
    EXPECT_EQ(KindOf([&] { scheduler_->Await(unknown, {}); }), ErrorKind::kUsage);
    EXPECT_EQ(KindOf([&] { scheduler_->Cancel(unknown); }), ErrorKind::kUsage);
    EXPECT_EQ(KindOf([&] { scheduler_->Forget(unknown); }), ErrorKind::kUsage);
  }
}

TEST_F(LifecycleTest, TheLastEventIsTakenOnce) {
  gate_.Open();
  const JobId id = scheduler_->Submit(TextJob({1, 2}, Greedy(2)));
  WaitFor(*scheduler_, id);
  EXPECT_EQ(KindOf([&] { scheduler_->Await(id, {}); }), ErrorKind::kUsage);
  EXPECT_FALSE(scheduler_->Cancel(id));
  scheduler_->Forget(id);
}

TEST_F(LifecycleTest, AForgottenJobEndsWithoutEvents) {
  const JobId id = scheduler_->Submit(Endless());
  gate_.AwaitArrival();
  std::thread waiter(
      [&] { EXPECT_EQ(KindOf([&] { scheduler_->Await(id, kPatience); }), ErrorKind::kUsage); });
  scheduler_->Forget(id);
  waiter.join();
  gate_.Open();
  RunJob(*scheduler_, TextJob({1, 2}, Greedy(2)));  // by then it has been seen
  EXPECT_EQ(scheduler_->stats().running, 0);
  EXPECT_EQ(scheduler_->stats().free_kv_blocks, 200);
}

TEST_F(LifecycleTest, DestructionEndsAllJobsAndWakesAllWaiters) {
  constexpr int kJobs = 6;
  std::vector<JobId> ids;
  for (int i = 0; i < kJobs; ++i) ids.push_back(scheduler_->Submit(Endless()));
  gate_.AwaitArrival();
  std::atomic<int> cancelled{0};
  std::vector<std::thread> waiters;
  for (const JobId id : ids) {
    waiters.emplace_back([&, id, scheduler = scheduler_.get()] {
      // One call: between two of them the scheduler may go.
      const std::optional<JobEvent> event = scheduler->Await(id, kPatience);
      if (event && event->error && event->error->kind() == ErrorKind::kCancelled) ++cancelled;
    });
  }
  while (scheduler_->stats().waiting < kJobs) std::this_thread::yield();
  std::thread opener([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    gate_.Open();
  });
  scheduler_.reset();
  opener.join();
  for (std::thread& waiter : waiters) waiter.join();
  EXPECT_GE(cancelled, kJobs - 1);  // the one that ran may have had an id to show first
}

TEST_F(LifecycleTest, AfterShutdownEventsCanStillBeTaken) {
  const JobId id = scheduler_->Submit(Endless());
  // However late this thread is, the id of the second job ends the first long before its last.
  scheduler_->Submit(TextJob({1, 2}, Greedy(2)),
                     [this](const JobEvent&) { scheduler_->Shutdown(); });
  gate_.Open();
  scheduler_->Shutdown();
  scheduler_->Shutdown();
  EXPECT_EQ(KindOf([&] { scheduler_->Submit(Endless()); }), ErrorKind::kCancelled);
  const Outcome outcome = WaitFor(*scheduler_, id);
  ASSERT_TRUE(outcome.error);
  EXPECT_EQ(outcome.error->kind(), ErrorKind::kCancelled);
  EXPECT_EQ(scheduler_->stats().free_kv_blocks, 200);
}

TEST_F(LifecycleTest, ACallbackMaySubmitAndCancelButNotWait) {
  gate_.Open();
  Gate done;
  std::vector<ErrorKind> await_errors;
  JobId second = 0;
  const JobId first = scheduler_->Submit(Endless(), [&](const JobEvent& event) {
    if (event.last()) {
      done.Open();
      done.Pass();
      return;
    }
    if (second != 0) return;
    second = scheduler_->Submit(Endless());
    await_errors.push_back(KindOf([&] { scheduler_->Await(second, kPatience); }));
    EXPECT_TRUE(scheduler_->Cancel(event.job));
    EXPECT_TRUE(scheduler_->Cancel(second));
  });
  EXPECT_EQ(KindOf([&] { scheduler_->Await(first, {}); }), ErrorKind::kUsage);
  done.AwaitArrival();
  EXPECT_EQ(await_errors, (std::vector<ErrorKind>{ErrorKind::kUsage}));
  EXPECT_EQ(WaitFor(*scheduler_, second).result->finish, JobFinish::kCancelled);
  EXPECT_EQ(KindOf([&] { scheduler_->Submit(Endless(), Scheduler::Callback()); }),
            ErrorKind::kUsage);
}

}  // namespace
}  // namespace xcomposer
