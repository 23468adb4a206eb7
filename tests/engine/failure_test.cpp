#include <gtest/gtest.h>

#include <algorithm>
#include <new>
#include <stdexcept>
#include <string>

#include "engine/scheduler_fixture.h"

/// Errors of one request and what they do to the others.
namespace xcomposer {
namespace {

using namespace testing;  // the fixture of this folder

constexpr int32_t kPoison = 39;
constexpr int32_t kLatePoison = 38;

/// True where a prompt in the batch begins with `id`.
bool StartsWith(const Batch& batch, int32_t id) {
  return std::any_of(batch.sequences.begin(), batch.sequences.end(), [&](const auto& slice) {
    return slice.position == 0 && batch.ids[slice.first_row] == id;
  });
}

class FailureTest : public ::testing::Test {
 protected:
  FailureTest() {
    auto executor = std::make_unique<StandInExecutor>(SmallLimits());
    executor_ = executor.get();
    executor_->features_alive = &features_alive_;
    scheduler_ = std::make_unique<Scheduler>(std::move(executor), OptionsWithBase());
  }
  ~FailureTest() override {
    EXPECT_EQ(scheduler_->stats().free_kv_blocks, scheduler_->stats().kv_blocks);
    scheduler_.reset();
    EXPECT_EQ(features_alive_, 0);
  }

  static Job Harmless(int32_t first, int64_t beams = 1) {
    Job job = TextJob({first, 2, 3, 4, 5}, Greedy(12));
    job.search.num_beams = beams;
    return job;
  }

  Error ErrorOf(Job job) {
    const Outcome outcome = RunJob(*scheduler_, std::move(job));
    if (outcome.result) throw std::runtime_error("the job succeeded");
    return *outcome.error;
  }

  int64_t features_alive_ = -1;
  StandInExecutor* executor_ = nullptr;
  std::unique_ptr<Scheduler> scheduler_;
};

TEST_F(FailureTest, AJobThatSpoilsABatchFailsAlone) {
  std::vector<std::vector<int32_t>> expected;
  for (int32_t i = 0; i < 6; ++i) {
    expected.push_back(RunJob(*scheduler_, Harmless(i, 1 + i % 3)).result->output_ids);
  }
  Gate gate;
  executor_->before_forward = [&](const Batch& batch) {
    gate.Pass();
    if (StartsWith(batch, kPoison)) throw Error(ErrorKind::kCapacity, "poisoned before");
  };
  executor_->after_forward = [&](const Batch& batch) {
    if (StartsWith(batch, kLatePoison)) throw std::runtime_error("the cache is written already");
  };
  std::vector<JobId> ids;
  for (int32_t i = 0; i < 6; ++i) {
    ids.push_back(scheduler_->Submit(Harmless(i, 1 + i % 3)));
    if (i == 2) gate.AwaitArrival();
  }
  const JobId before_job = scheduler_->Submit(Harmless(kPoison));
  const JobId after_job = scheduler_->Submit(Harmless(kLatePoison));
  gate.Open();
  const Outcome before = WaitFor(*scheduler_, before_job);
  ASSERT_TRUE(before.error);
  EXPECT_EQ(before.error->kind(), ErrorKind::kCapacity);
  const Outcome afterwards = WaitFor(*scheduler_, after_job);
  ASSERT_TRUE(afterwards.error);
  EXPECT_EQ(afterwards.error->kind(), ErrorKind::kInternal);
  for (size_t i = 0; i < ids.size(); ++i) {
    const Outcome outcome = WaitFor(*scheduler_, ids[i]);
    ASSERT_TRUE(outcome.result) << outcome.error->what();
    EXPECT_EQ(outcome.result->output_ids, expected[i]) << "job " << i;
  }
}

TEST_F(FailureTest, ALostExecutorIsNotTriedAgainButTheEngineLives) {
  for (const ErrorKind kind : {ErrorKind::kRank, ErrorKind::kDevice, ErrorKind::kTransport}) {
    SCOPED_TRACE(ToString(kind));
    int calls = 0;
    Gate gate;
    executor_->before_forward = [&](const Batch& batch) {
      gate.Pass();
      if (batch.sequences.size() < 2) return;
      ++calls;
      throw Error(kind, "it is lost");
    };
    const JobId first = scheduler_->Submit(Harmless(1));
    gate.AwaitArrival();
    const JobId second = scheduler_->Submit(Harmless(2));
    gate.Open();
    for (const JobId id : {first, second}) {
      const Outcome outcome = WaitFor(*scheduler_, id);
      EXPECT_TRUE(outcome.error && outcome.error->kind() == kind);
    }
    EXPECT_EQ(calls, 1);
    EXPECT_TRUE(RunJob(*scheduler_, Harmless(3)).result);
  }
}

TEST_F(FailureTest, WhateverIsThrownBecomesATypedError) {
  executor_->before_forward = [](const Batch&) { throw std::bad_alloc(); };
  EXPECT_EQ(ErrorOf(Harmless(1)).kind(), ErrorKind::kCapacity);
  executor_->before_forward = [](const Batch&) { throw std::runtime_error("odd"); };
  EXPECT_EQ(ErrorOf(Harmless(1)).kind(), ErrorKind::kInternal);
  executor_->before_forward = [](const Batch&) { throw 42; };
  EXPECT_EQ(ErrorOf(Harmless(1)).kind(), ErrorKind::kInternal);
  executor_->before_forward = nullptr;
  EXPECT_TRUE(RunJob(*scheduler_, Harmless(1)).result);
}

TEST_F(FailureTest, APictureThatCannotBeEncodedFailsItsJob) {
  executor_->before_encode = [](const Picture& picture) {
    if (picture.width == 5) throw Error(ErrorKind::kCapacity, "no memory for the tower");
  };
  Job job = Harmless(1);
  job.id = "p";
  AppendPicture(&job, TestPicture(4, 1), 4);
  AppendPicture(&job, TestPicture(5, 1), 5);
  const JobId other = scheduler_->Submit(Harmless(2));
  const Error error = ErrorOf(std::move(job));
  EXPECT_EQ(error.kind(), ErrorKind::kCapacity);
  EXPECT_EQ(error.where().at("request"), "p");
  EXPECT_TRUE(WaitFor(*scheduler_, other).result);
}

class BrokenStream : public TextStream {
 public:
  Piece Push(int32_t) override { throw Error(ErrorKind::kTokenizer, "no such piece"); }
  std::string Finish() override { return {}; }
};

TEST_F(FailureTest, ATextStreamThatThrowsFailsItsJob) {
  Job job = Harmless(1);
  job.text = std::make_unique<BrokenStream>();
  EXPECT_EQ(ErrorOf(std::move(job)).kind(), ErrorKind::kTokenizer);
}

TEST_F(FailureTest, ASinkThatThrowsFailsItsJob) {
  Job job = Harmless(1);
  job.taps.wants = [](const std::string& name) { return name == "layer0.out"; };
  job.taps.put = [](Tap&&) { throw std::runtime_error("disk full"); };
  EXPECT_EQ(ErrorOf(std::move(job)).kind(), ErrorKind::kInternal);
}

TEST_F(FailureTest, ACallbackThatThrowsCancelsItsJob) {
  Gate done;
  int events = 0;
  JobFinish finish = JobFinish::kLength;
  Job job = Harmless(1);
  job.search.max_new_tokens = 500;
  scheduler_->Submit(std::move(job), [&](const JobEvent& event) {
    ++events;
    if (!event.last()) throw std::runtime_error("the reader went away");
    finish = event.result->finish;
    done.Open();
    done.Pass();
  });
  done.AwaitArrival();
  EXPECT_EQ(finish, JobFinish::kCancelled);
  EXPECT_EQ(events, 2);
}

}  // namespace
}  // namespace xcomposer
