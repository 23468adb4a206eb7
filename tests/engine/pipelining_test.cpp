#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <set>

#include "engine/scheduler_fixture.h"

/// Several batches in flight over an executor with stages.
namespace xcomposer {
namespace {

using namespace testing;  // the fixture of this folder

constexpr int64_t kStages = 4;

ExecutorLimits StagedLimits() {
  ExecutorLimits limits = SmallLimits();
  limits.stages = kStages;
  return limits;
}

class PipeliningTest : public ::testing::Test {
 protected:
  PipeliningTest() {
    auto executor = std::make_unique<StandInExecutor>(StagedLimits());
    executor_ = executor.get();
    executor_->features_alive = &features_alive_;
    scheduler_ = std::make_unique<Scheduler>(std::move(executor), OptionsWithBase(20));
  }
  ~PipeliningTest() override {
    EXPECT_EQ(scheduler_->stats().free_kv_blocks, scheduler_->stats().kv_blocks);
    scheduler_.reset();
    EXPECT_EQ(features_alive_, 0);
  }

  static Job AnyJob(int32_t seed) {
    Job job = TextJob({}, Greedy(9 + seed % 7));
    for (int32_t i = 0; i < 3 + 9 * (seed % 6); ++i) job.ids.push_back((7 * seed + i) % 37);
    job.penalty_ids = {1};
    job.search.num_beams = 1 + seed % 3;
    job.text_path = seed % 4 == 3;
    if (seed % 2 == 1) AppendPicture(&job, TestPicture(11, static_cast<uint8_t>(seed)), 11);
    return job;
  }

  int64_t features_alive_ = -1;
  StandInExecutor* executor_ = nullptr;
  std::unique_ptr<Scheduler> scheduler_;
};

TEST_F(PipeliningTest, EveryJobGivesWhatItGivesAlone) {
  std::vector<JobId> ids;
  std::vector<std::vector<int32_t>> expected;
  for (int32_t seed = 0; seed < 24; ++seed) {
    expected.push_back(Expected(AnyJob(seed), StagedLimits(), GrowingBase(20)).ids);
    ids.push_back(scheduler_->Submit(AnyJob(seed)));
  }
  for (size_t i = 0; i < ids.size(); ++i) {
    const Outcome outcome = WaitFor(*scheduler_, ids[i]);
    ASSERT_TRUE(outcome.result) << outcome.error->what();
    EXPECT_EQ(outcome.result->output_ids, expected[i]) << "job " << i;
  }
  EXPECT_EQ(executor_->most_in_flight, kStages + 1);
}

TEST_F(PipeliningTest, TheChunksOfOnePromptFollowEachOther) {
  Job job = TextJob(std::vector<int32_t>(80, 5), Greedy(3));
  ASSERT_TRUE(RunJob(*scheduler_, std::move(job)).result);
  EXPECT_EQ(executor_->most_in_flight, kStages + 1);
}

TEST_F(PipeliningTest, AnswersAreSpreadOverTheStages) {
  std::mutex mutex;
  std::map<size_t, int> sizes;  // sequences of a batch -> batches
  Gate gate;
  executor_->before_forward = [&](const Batch& batch) {
    gate.Pass();
    const std::lock_guard lock(mutex);
    const bool answers = std::all_of(batch.sequences.begin(), batch.sequences.end(),
                                     [](const auto& slice) { return slice.position >= 2; });
    if (answers) ++sizes[batch.sequences.size()];
  };
  std::vector<JobId> ids;
  for (int32_t i = 0; i < 6; ++i) {
    ids.push_back(scheduler_->Submit(TextJob({i, 2}, Greedy(40))));
    if (i == 0) gate.AwaitArrival();
  }
  gate.Open();
  for (const JobId id : ids) ASSERT_TRUE(WaitFor(*scheduler_, id).result);
  // Six answers in four batches: one or two each, except where the first job ran ahead.
  EXPECT_GT(sizes[2], 40);
  EXPECT_LT(sizes[3] + sizes[4] + sizes[5] + sizes[6], 10);
}

TEST_F(PipeliningTest, AJobThatSpoilsABatchTakesItsLaterChunksAlongAndNobodyElse) {
  constexpr int32_t kPoison = 39;
  std::vector<std::vector<int32_t>> expected;
  for (int32_t seed = 0; seed < 12; ++seed) {
    expected.push_back(Expected(AnyJob(seed), StagedLimits(), GrowingBase(20)).ids);
  }
  Gate gate;
  std::atomic<int> poisoned{0};
  executor_->before_forward = [&](const Batch& batch) {
    gate.Pass();
    for (const SequenceSlice& slice : batch.sequences) {
      if (slice.position == 0 && batch.ids[slice.first_row] == kPoison) {
        ++poisoned;
        throw Error(ErrorKind::kCapacity, "poisoned");
      }
    }
  };
  std::vector<JobId> ids;
  std::vector<JobId> bad;
  for (int32_t seed = 0; seed < 12; ++seed) {
    ids.push_back(scheduler_->Submit(AnyJob(seed)));
    if (seed == 0) gate.AwaitArrival();
    if (seed % 3 != 1) continue;
    Job job = TextJob(std::vector<int32_t>(40, 3), Greedy(5));
    job.ids[0] = kPoison;
    bad.push_back(scheduler_->Submit(std::move(job)));
  }
  gate.Open();
  for (const JobId id : bad) {
    const Outcome outcome = WaitFor(*scheduler_, id);
    ASSERT_TRUE(outcome.error);
    EXPECT_EQ(outcome.error->kind(), ErrorKind::kCapacity);
  }
  for (size_t i = 0; i < ids.size(); ++i) {
    const Outcome outcome = WaitFor(*scheduler_, ids[i]);
    ASSERT_TRUE(outcome.result) << outcome.error->what();
    EXPECT_EQ(outcome.result->output_ids, expected[i]) << "job " << i;
  }
  EXPECT_GE(poisoned, static_cast<int>(bad.size()));
}

TEST_F(PipeliningTest, AJobThatIsCancelledWithRowsInFlightDisturbsNobody) {
  Gate gate;
  executor_->before_forward = [&](const Batch&) { gate.Pass(); };
  Job doomed = TextJob(std::vector<int32_t>(70, 3), Greedy(50));
  AppendPicture(&doomed, TestPicture(9, 4), 9);
  doomed.taps.wants = [](const std::string& name) { return name == "layer0.out"; };
  doomed.taps.put = [](Tap&&) {};
  const JobId cancelled = scheduler_->Submit(std::move(doomed));
  gate.AwaitArrival();
  std::vector<JobId> ids;
  for (int32_t seed = 0; seed < 6; ++seed) ids.push_back(scheduler_->Submit(AnyJob(seed)));
  scheduler_->Cancel(cancelled);
  gate.Open();
  EXPECT_EQ(WaitFor(*scheduler_, cancelled).result->finish, JobFinish::kCancelled);
  for (int32_t seed = 0; seed < 6; ++seed) {
    const Outcome outcome = WaitFor(*scheduler_, ids[static_cast<size_t>(seed)]);
    ASSERT_TRUE(outcome.result) << outcome.error->what();
    EXPECT_EQ(outcome.result->output_ids,
              Expected(AnyJob(seed), StagedLimits(), GrowingBase(20)).ids);
  }
}

TEST_F(PipeliningTest, ALostExecutorEndsAllThatWasInFlight) {
  Gate gate;
  std::atomic<bool> lost{false};
  executor_->before_forward = [&](const Batch&) {
    gate.Pass();
    if (lost) throw Error(ErrorKind::kRank, "rank 1 is lost");
  };
  std::vector<JobId> ids;
  for (int32_t i = 0; i < 8; ++i) ids.push_back(scheduler_->Submit(TextJob({i, 2}, Greedy(90))));
  gate.AwaitArrival();
  lost = true;
  gate.Open();
  for (const JobId id : ids) {
    const Outcome outcome = WaitFor(*scheduler_, id);
    ASSERT_TRUE(outcome.error);
    EXPECT_EQ(outcome.error->kind(), ErrorKind::kRank);
  }
  lost = false;
  EXPECT_TRUE(RunJob(*scheduler_, TextJob({1, 2}, Greedy(3))).result);
}

}  // namespace
}  // namespace xcomposer
