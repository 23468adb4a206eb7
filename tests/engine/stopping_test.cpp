#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "engine/scheduler_fixture.h"

/// Pictures and batches that end on the way because nobody waits for them any more.
namespace xcomposer {
namespace {

using namespace testing;  // the fixture of this folder
using Clock = std::chrono::steady_clock;

/// Works until somebody says stop, as a tower of many layers would.
void WorkUntilStopped(const StopTest& stop) {
  const Clock::time_point until = Clock::now() + kPatience;
  while (!stop()) {
    if (Clock::now() > until) throw Error(ErrorKind::kInternal, "nobody said stop");
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  throw Error(ErrorKind::kCancelled, "stopped");
}

/// The executor calls `encode_` in each picture and `forward_` in each batch.
class StoppingTest : public ::testing::Test {
 protected:
  void Start(int64_t stages = 1) {
    ExecutorLimits limits = SmallLimits();
    limits.stages = stages;
    auto executor = std::make_unique<StandInExecutor>(limits);
    executor->while_encoding = [this](const StopTest& stop) {
      if (hooked_ && encode_) encode_(stop);
    };
    executor->before_forward = [this](const Batch& batch) {
      if (hooked_ && forward_) forward_(batch);
    };
    scheduler_ = std::make_unique<Scheduler>(std::move(executor), OptionsWithBase());
  }

  static Job WithPicture() {
    Job job = TextJob({1, 2}, Greedy(4));
    AppendPicture(&job, TestPicture(3, 7), 3);
    return job;
  }

  /// Returns when the executor is at the picture, where it stays until it is stopped.
  JobId SubmitWorkingPicture() {
    encode_ = [this](const StopTest& stop) {
      EXPECT_FALSE(stop());
      working_.Pass();
      WorkUntilStopped(stop);
    };
    Start();
    const JobId id = scheduler_->Submit(WithPicture());
    working_.AwaitArrival();
    working_.Open();
    return id;
  }

  /// The engine still gives what it should.
  void ExpectUsable() {
    hooked_ = false;  // batches may still be on their way
    const Outcome outcome = RunJob(*scheduler_, WithPicture());
    ASSERT_TRUE(outcome.result);
    EXPECT_EQ(outcome.result->output_ids,
              Expected(WithPicture(), SmallLimits(), OptionsWithBase().rope_base).ids);
    EXPECT_EQ(scheduler_->stats().free_kv_blocks, 200);
  }

  std::atomic<bool> hooked_{true};
  Gate working_;
  std::function<void(const StopTest&)> encode_;  // set before Start
  std::function<void(const Batch&)> forward_;
  std::unique_ptr<Scheduler> scheduler_;  // goes first: its thread calls the above
};

TEST_F(StoppingTest, APictureOfACancelledJobEndsOnTheWay) {
  const JobId id = SubmitWorkingPicture();
  EXPECT_TRUE(scheduler_->Cancel(id));
  const Outcome outcome = WaitFor(*scheduler_, id);
  ASSERT_TRUE(outcome.result);
  EXPECT_EQ(outcome.result->finish, JobFinish::kCancelled);
  EXPECT_TRUE(outcome.result->output_ids.empty());
  ExpectUsable();
}

TEST_F(StoppingTest, APictureEndsAtTheDeadline) {
  std::atomic<bool> began{false};
  encode_ = [&](const StopTest& stop) {
    began = !stop();
    WorkUntilStopped(stop);
  };
  Start();
  WithADeadline([&](Clock::time_point deadline) {
    began = false;
    Job job = WithPicture();
    job.deadline = deadline;
    EXPECT_EQ(RunJob(*scheduler_, std::move(job)).result.value().finish, JobFinish::kDeadline);
    return began.load();
  });
  ExpectUsable();
}

TEST_F(StoppingTest, APictureEndsWithTheEngine) {
  const JobId id = SubmitWorkingPicture();
  scheduler_->Shutdown();
  const Outcome outcome = WaitFor(*scheduler_, id);
  ASSERT_TRUE(outcome.error);
  EXPECT_EQ(outcome.error->kind(), ErrorKind::kCancelled);
  EXPECT_NE(std::string(outcome.error->what()).find("shutting down"), std::string::npos);
}

TEST_F(StoppingTest, ABatchEndsOnlyWhenAllItsJobsAreCancelled) {
  Gate gate;
  std::atomic<int> batches{0};
  std::atomic<bool> stopped_early{false};
  forward_ = [&](const Batch& batch) {
    if (batch.sequences.size() < 2 || ++batches > 1) return;
    gate.Pass();
    stopped_early = batch.stop();
    gate.Pass();
    WorkUntilStopped(batch.stop);
  };
  // The first one holds the driver's thread until both others are there.
  Gate first;
  encode_ = [&](const StopTest&) { first.Pass(); };
  Start();
  const JobId pictured = scheduler_->Submit(WithPicture());
  first.AwaitArrival();
  const JobId one = scheduler_->Submit(TextJob({1, 2, 3}, Greedy(100)));
  const JobId other = scheduler_->Submit(TextJob({4, 5, 6}, Greedy(100)));
  scheduler_->Cancel(pictured);
  first.Open();
  WaitFor(*scheduler_, pictured);
  gate.AwaitArrival(1);
  EXPECT_TRUE(scheduler_->Cancel(one));
  gate.Allow(1);
  gate.AwaitArrival(2);
  EXPECT_FALSE(stopped_early) << "the other job still waits for its rows";
  EXPECT_TRUE(scheduler_->Cancel(other));
  gate.Open();
  for (const JobId id : {one, other}) {
    const Outcome outcome = WaitFor(*scheduler_, id);
    ASSERT_TRUE(outcome.result) << outcome.error->what();
    EXPECT_EQ(outcome.result->finish, JobFinish::kCancelled);
    EXPECT_TRUE(outcome.result->output_ids.empty());
  }
  ExpectUsable();
}

TEST_F(StoppingTest, TheBeamsOfAJobEndTogether) {
  Gate gate;
  forward_ = [&](const Batch& batch) {
    if (batch.sequences.size() < 3) return;
    gate.Pass();
    WorkUntilStopped(batch.stop);
  };
  Start();
  Job job = TextJob({1, 2, 3}, Greedy(50));
  job.search.num_beams = 3;
  const JobId id = scheduler_->Submit(std::move(job));
  gate.AwaitArrival();
  EXPECT_TRUE(scheduler_->Cancel(id));
  gate.Open();
  const Outcome outcome = WaitFor(*scheduler_, id);
  ASSERT_TRUE(outcome.result);
  EXPECT_EQ(outcome.result->finish, JobFinish::kCancelled);
  EXPECT_EQ(outcome.result->output_ids.size(), 1u);
  ExpectUsable();
}

TEST_F(StoppingTest, ALongPromptInSeveralBatchesEndsAtTheDeadline) {
  std::atomic<bool> began{false};
  forward_ = [&](const Batch& batch) {
    if (batch.sequences[0].position != 16) return;  // the second batch
    began = !batch.stop();
    WorkUntilStopped(batch.stop);
  };
  Start(3);
  WithADeadline([&](Clock::time_point deadline) {
    began = false;
    Job job = TextJob(std::vector<int32_t>(100, 5), Greedy(4));  // of 16 rows each
    job.deadline = deadline;
    const JobResult result = RunJob(*scheduler_, std::move(job)).result.value();
    EXPECT_EQ(result.finish, JobFinish::kDeadline);
    EXPECT_TRUE(result.output_ids.empty());
    return began.load();
  });
  ExpectUsable();
}

/// Two jobs whose prompts fill one batch, held by the first one's picture until both are there.
class SharedBatchTest : public StoppingTest {
 protected:
  static Job Prompt(int32_t id) { return TextJob(std::vector<int32_t>(8, id), Greedy(4)); }

  void SubmitTogether(const std::vector<int32_t>& prompts, int64_t stages = 1) {
    encode_ = [this](const StopTest&) { picture_.Pass(); };
    Start(stages);
    const JobId first = scheduler_->Submit(WithPicture());
    picture_.AwaitArrival();
    for (const int32_t id : prompts) jobs_.push_back(scheduler_->Submit(Prompt(id)));
    scheduler_->Cancel(first);
    picture_.Open();
    WaitFor(*scheduler_, first);
  }

  void ExpectAnswer(size_t job, int32_t id) {
    const Outcome outcome = WaitFor(*scheduler_, jobs_[job]);
    ASSERT_TRUE(outcome.result) << outcome.error->what();
    EXPECT_EQ(outcome.result->output_ids,
              Expected(Prompt(id), SmallLimits(), OptionsWithBase().rope_base).ids);
  }

  void ExpectCancelled(size_t job) {
    const Outcome outcome = WaitFor(*scheduler_, jobs_[job]);
    ASSERT_TRUE(outcome.result) << outcome.error->what();
    EXPECT_EQ(outcome.result->finish, JobFinish::kCancelled);
    EXPECT_TRUE(outcome.result->output_ids.empty());
  }

  Gate picture_;
  std::vector<JobId> jobs_;
};

TEST_F(SharedBatchTest, ABatchBehindOneThatFailedEndsOnTheWay) {
  Gate gate;
  std::atomic<int> pairs{0};
  forward_ = [&](const Batch& batch) {
    if (batch.sequences.size() != 2) return;
    const int number = ++pairs;
    if (number == 1) {
      gate.Pass();
      throw Error(ErrorKind::kCapacity, "no memory for two");
    }
    if (number == 2) WorkUntilStopped(batch.stop);
  };
  SubmitTogether({3, 4, 5, 6, 7, 8}, 3);
  gate.AwaitArrival();
  for (const size_t job : {2, 3}) EXPECT_TRUE(scheduler_->Cancel(jobs_[job]));
  gate.Open();
  for (const size_t job : {0, 1, 4, 5}) ExpectAnswer(job, 3 + static_cast<int32_t>(job));
  for (const size_t job : {2, 3}) ExpectCancelled(job);
  ExpectUsable();
}

TEST_F(SharedBatchTest, RowsThatRunAgainEndOnTheWay) {
  Gate gate;
  std::atomic<bool> failed{false};
  std::atomic<bool> held{false};
  forward_ = [&](const Batch& batch) {
    const bool both = batch.sequences.size() == 2;
    if (both && !failed.exchange(true)) throw Error(ErrorKind::kCapacity, "no memory for two");
    if (!failed || held.exchange(true)) return;
    EXPECT_FALSE(both) << "the first one runs alone";
    gate.Pass();
    WorkUntilStopped(batch.stop);
  };
  SubmitTogether({3, 4});
  gate.AwaitArrival();
  EXPECT_TRUE(scheduler_->Cancel(jobs_[0]));
  gate.Open();
  ExpectCancelled(0);
  ExpectAnswer(1, 4);
  ExpectUsable();
}

TEST_F(StoppingTest, WhatWentWrongIsSaidAlsoOfACancelledJob) {
  for (const bool picture : {true, false}) {
    Gate gate;
    const auto fail = [&] {
      gate.Pass();
      throw Error(ErrorKind::kCapacity, "no memory");
    };
    hooked_ = true;
    encode_ = [&](const StopTest&) {
      if (picture) fail();
    };
    forward_ = [&](const Batch&) { fail(); };
    Start();
    const JobId id = scheduler_->Submit(WithPicture());
    gate.AwaitArrival();
    scheduler_->Cancel(id);
    gate.Open();
    const Outcome outcome = WaitFor(*scheduler_, id);
    ASSERT_TRUE(outcome.error) << picture;
    EXPECT_EQ(outcome.error->kind(), ErrorKind::kCapacity);
    ExpectUsable();
    scheduler_.reset();  // before the gate
  }
}

TEST_F(StoppingTest, TheTestMayBeAskedWhenTheEngineIsGone) {
  StopTest kept;
  forward_ = [&](const Batch& batch) {
    if (!kept) kept = batch.stop;
  };
  Start();
  RunJob(*scheduler_, TextJob({1, 2, 3}, Greedy(2)));
  scheduler_.reset();
  EXPECT_TRUE(kept());
}

}  // namespace
}  // namespace xcomposer
