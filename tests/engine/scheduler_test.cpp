#include "engine/scheduler.h"

#include <gtest/gtest.h>

#include <future>
#include <thread>
#include <utility>

#include "engine/kv_blocks.h"
#include "engine/scheduler_fixture.h"

/// What jobs give: ids equal to a search that writes every history out in full.
namespace xcomposer {
namespace {

using namespace testing;  // the fixture of this folder

class SchedulerTest : public ::testing::Test {
 protected:
  /// The executor stays reachable; hooks are set before the first job.
  Scheduler& Start(ExecutorLimits limits = SmallLimits(),
                   SchedulerOptions options = OptionsWithBase()) {
    limits_ = limits;
    base_ = options.rope_base;
    auto executor = std::make_unique<StandInExecutor>(limits);
    executor_ = executor.get();
    scheduler_ = std::make_unique<Scheduler>(std::move(executor), std::move(options));
    return *scheduler_;
  }

  SearchOutput ExpectedOf(const Job& job) { return Expected(job, limits_, base_); }

  void ExpectAllBlocksFree() {
    const SchedulerStats stats = scheduler_->stats();
    EXPECT_EQ(stats.free_kv_blocks, stats.kv_blocks);
    EXPECT_EQ(stats.running, 0);
    EXPECT_EQ(stats.queued, 0);
  }

  ExecutorLimits limits_;
  std::function<double(int64_t)> base_;
  StandInExecutor* executor_ = nullptr;
  std::unique_ptr<Scheduler> scheduler_;
};

std::vector<int32_t> Prompt(int64_t rows, int32_t salt) {
  std::vector<int32_t> ids(rows);
  for (int64_t row = 0; row < rows; ++row) ids[row] = static_cast<int32_t>((row * 7 + salt) % 40);
  return ids;
}

TEST_F(SchedulerTest, StepsHaveATimeWhereThereIsMoreThanOne) {
  Scheduler& scheduler = Start();
  const JobTimings three = RunJob(scheduler, TextJob(Prompt(9, 3), Greedy(3))).result->timings;
  EXPECT_GT(three.step_s, 0);
  EXPECT_LE(2 * three.step_s, three.decode_s);  // the shorter of two
  EXPECT_DOUBLE_EQ(three.tokens_per_s * three.decode_s, 2);
  const JobTimings one = RunJob(scheduler, TextJob(Prompt(9, 3), Greedy(1))).result->timings;
  EXPECT_EQ(one.step_s, 0);
  EXPECT_EQ(one.tokens_per_s, 0);
}

TEST_F(SchedulerTest, NoMomentOfAJobIsCountedTwice) {
  using Clock = std::chrono::steady_clock;
  constexpr std::chrono::duration<double> kEncoding{0.03};
  Scheduler& scheduler = Start();
  executor_->before_encode = [&](const Picture&) { std::this_thread::sleep_for(kEncoding); };
  Job job = TextJob(Prompt(9, 3), Greedy(4));
  AppendPicture(&job, TestPicture(11, 1), 11);
  std::promise<std::pair<JobTimings, Clock::time_point>> done;
  const Clock::time_point begin = Clock::now();
  scheduler.Submit(std::move(job), [&](const JobEvent& event) {
    if (event.last()) done.set_value({event.result.value().timings, Clock::now()});
  });
  const auto [times, end] = done.get_future().get();
  EXPECT_GE(times.image_s, kEncoding.count());
  EXPECT_GT(times.prefill_s, 0);
  EXPECT_LE(times.queue_s + times.image_s + times.prefill_s + times.decode_s,
            std::chrono::duration<double>(end - begin).count() + 1e-9);
}

TEST_F(SchedulerTest, GreedyGivesTheIdsOfTheSearch) {
  Scheduler& scheduler = Start();
  Job job = TextJob(Prompt(9, 3), Greedy(12));
  const auto expected = ExpectedOf(job).ids;
  const Outcome outcome = RunJob(scheduler, std::move(job));
  ASSERT_TRUE(outcome.result);
  EXPECT_EQ(outcome.result->output_ids, expected);
  EXPECT_EQ(outcome.result->finish, JobFinish::kLength);
  EXPECT_EQ(outcome.result->prompt_rows, 9);
  EXPECT_EQ(outcome.result->image_rows, 0);
  EXPECT_EQ(outcome.events.size(), 13u);  // one per id, and the end
  ExpectAllBlocksFree();
}

TEST_F(SchedulerTest, StopIdsEndTheAnswer) {
  Scheduler& scheduler = Start();
  SearchOptions search = Greedy(200);
  search.eos_token_id = {2, 7, 11, 13, 17};
  Job job = TextJob(Prompt(9, 3), search);
  const SearchOutput expected = ExpectedOf(job);
  ASSERT_TRUE(expected.stopped);
  const Outcome outcome = RunJob(scheduler, std::move(job));
  EXPECT_EQ(outcome.result->output_ids, expected.ids);
  EXPECT_EQ(outcome.result->finish, JobFinish::kStop);
}

Job PictureJob(int64_t num_beams) {
  Job job = TextJob(Prompt(5, 1), Greedy(9));
  job.search.num_beams = num_beams;
  job.search.eos_token_id = {2, 12};
  AppendPicture(&job, TestPicture(11, 1), 11);
  job.ids.push_back(8);
  AppendPicture(&job, TestPicture(6, 2), 4);  // cut
  AppendPicture(&job, TestPicture(6, 2), 6);  // the same picture again
  return job;
}

TEST_F(SchedulerTest, ChunkedPromptsAndBeamsGiveTheSameForAnyBlockAndBatchSize) {
  for (const int64_t beams : {1, 2, 3, 5}) {
    for (const int64_t rows : {1, 2, 3, 7, 64}) {
      for (const int64_t block : {1, 3, 4, 16, 64}) {
        SCOPED_TRACE(::testing::Message()
                     << beams << " beams, batches of " << rows << ", blocks of " << block);
        Scheduler& scheduler = Start({40, 700 / block + 5, block, rows});
        Job job = PictureJob(beams);
        const SearchOutput expected = ExpectedOf(job);
        const Outcome outcome = RunJob(scheduler, std::move(job));
        ASSERT_TRUE(outcome.result) << outcome.error->what();
        EXPECT_EQ(outcome.result->output_ids, expected.ids);
        EXPECT_EQ(outcome.result->sequence_score, expected.score);
        EXPECT_EQ(outcome.result->image_rows, 21);
        ExpectAllBlocksFree();
      }
    }
  }
}

TEST_F(SchedulerTest, BeamsFitIntoTheBlocksThatAdmissionCounts) {
  for (const int64_t block : {1, 3, 4}) {
    for (const int64_t prompt : {3, 4, 5, 8}) {
      Job job = TextJob(Prompt(prompt, 5), Greedy(9));
      job.search.num_beams = 4;
      const BlockPool pool(1000, block);
      const int64_t needed = MaxBlocks(pool, {prompt, prompt + 8, 4, true});
      Scheduler& scheduler = Start({40, needed, block, 16});
      const auto expected = ExpectedOf(job).ids;
      const Outcome outcome = RunJob(scheduler, std::move(job));
      ASSERT_TRUE(outcome.result) << outcome.error->what();
      EXPECT_EQ(outcome.result->output_ids, expected);
    }
  }
}

TEST_F(SchedulerTest, AdaptersAndPromptsDoNotMix) {
  Scheduler& scheduler = Start();
  std::vector<JobId> ids;
  std::vector<std::vector<int32_t>> expected;
  for (int32_t i = 0; i < 12; ++i) {
    Job job = TextJob(Prompt(3 + 5 * i, i), Greedy(4 + i));
    job.adapter = static_cast<Adapter>(i % 3);
    if (i % 4 == 1) job.search.num_beams = 3;
    if (i % 4 == 2) AppendPicture(&job, TestPicture(9, static_cast<uint8_t>(i)), 9);
    expected.push_back(ExpectedOf(job).ids);
    ids.push_back(scheduler.Submit(std::move(job)));
  }
  for (size_t i = 0; i < ids.size(); ++i) {
    const Outcome outcome = WaitFor(scheduler, ids[i]);
    ASSERT_TRUE(outcome.result) << outcome.error->what();
    EXPECT_EQ(outcome.result->output_ids, expected[i]) << "job " << i;
  }
  ExpectAllBlocksFree();
}

TEST_F(SchedulerTest, BeyondThePositionTableEachStepHasItsOwnBase) {
  for (const int64_t rows : {3, 64}) {
    for (const int64_t beams : {1, 3}) {
      for (const bool text_path : {false, true}) {
        for (const int64_t limit : {5, 15, 20}) {  // before, in and after the prompt and new ids
          SCOPED_TRACE(::testing::Message() << rows << " rows, " << beams << " beams, text path "
                                            << text_path << ", limit " << limit);
          Scheduler& scheduler = Start({40, 200, 4, rows}, OptionsWithBase(limit));
          Job job = TextJob(Prompt(13, 4), Greedy(6));
          job.search.num_beams = beams;
          job.text_path = text_path;
          if (text_path) job.penalty_ids = job.ids;
          const auto expected = ExpectedOf(job).ids;
          const Outcome outcome = RunJob(scheduler, std::move(job));
          ASSERT_TRUE(outcome.result) << outcome.error->what();
          EXPECT_EQ(outcome.result->output_ids, expected);
          ExpectAllBlocksFree();
        }
      }
    }
  }
}

TEST_F(SchedulerTest, RecomputingBeamsFitIntoTheBlocksThatAdmissionCounts) {
  const BlockPool pool(1000, 4);
  const int64_t needed = MaxBlocks(pool, {13, 18, 3, false});
  Scheduler& scheduler = Start({40, needed, 4, 16}, OptionsWithBase(14));
  Job job = TextJob(Prompt(13, 4), Greedy(6));
  job.search.num_beams = 3;
  job.text_path = true;
  const auto expected = ExpectedOf(job).ids;
  const Outcome outcome = RunJob(scheduler, std::move(job));
  ASSERT_TRUE(outcome.result) << outcome.error->what();
  EXPECT_EQ(outcome.result->output_ids, expected);
}

TEST_F(SchedulerTest, AnAnswerDoesNotDependOnEarlierRequests) {
  Scheduler& scheduler = Start(SmallLimits(), OptionsWithBase(16));
  const auto run = [&](int64_t rows) {
    return RunJob(scheduler, TextJob(Prompt(rows, 2), Greedy(5))).result->output_ids;
  };
  const auto fresh = run(8);
  run(60);  // far beyond the table
  EXPECT_EQ(run(8), fresh);
}

Job SampledJob(std::optional<uint64_t> seed) {
  Job job = TextJob(Prompt(6, 1), Greedy(16));
  job.search.do_sample = true;
  job.search.temperature = 3.0;
  job.search.seed = seed;
  return job;
}

TEST_F(SchedulerTest, ASeedGivesTheSameIdsInAnyCompany) {
  Scheduler& scheduler = Start();
  const auto alone = RunJob(scheduler, SampledJob(17)).result->output_ids;
  EXPECT_NE(RunJob(scheduler, SampledJob(18)).result->output_ids, alone);
  std::vector<JobId> others;
  for (int32_t i = 0; i < 5; ++i) {
    others.push_back(scheduler.Submit(TextJob(Prompt(20 + i, i), Greedy(30))));
  }
  EXPECT_EQ(RunJob(scheduler, SampledJob(17)).result->output_ids, alone);
  for (const JobId other : others) WaitFor(scheduler, other);
}

TEST_F(SchedulerTest, ADrawnSeedIsReported) {
  Scheduler& scheduler = Start();
  const JobResult first = *RunJob(scheduler, SampledJob(std::nullopt)).result;
  const JobResult second = *RunJob(scheduler, SampledJob(std::nullopt)).result;
  EXPECT_NE(first.seed, second.seed);
  EXPECT_LT(first.seed, uint64_t{1} << 53);
  EXPECT_EQ(RunJob(scheduler, SampledJob(first.seed)).result->output_ids, first.output_ids);
}

TEST_F(SchedulerTest, JobsWaitForBlocksInOrder) {
  Scheduler& scheduler = Start({40, 6, 4, 16});
  Gate gate;
  std::vector<int32_t> begun;  // the first ids of prompts
  executor_->before_forward = [&](const Batch& batch) {
    gate.Pass();
    for (const SequenceSlice& slice : batch.sequences) {
      if (slice.position == 0) begun.push_back(batch.ids[slice.first_row]);
    }
  };
  std::vector<JobId> ids;
  std::vector<std::vector<int32_t>> expected;
  // Three blocks; then all six; then one, for which there is room before the six are free.
  for (const auto& [rows, new_ids] :
       std::vector<std::pair<int64_t, int64_t>>{{8, 5}, {20, 5}, {3, 2}, {3, 2}, {16, 9}, {3, 2}}) {
    Job job = TextJob(Prompt(rows, static_cast<int32_t>(ids.size())), Greedy(new_ids));
    expected.push_back(ExpectedOf(job).ids);
    ids.push_back(scheduler.Submit(std::move(job)));
    if (ids.size() == 1) gate.AwaitArrival();
  }
  gate.Open();
  for (size_t i = 0; i < ids.size(); ++i) {
    const Outcome outcome = WaitFor(scheduler, ids[i]);
    ASSERT_TRUE(outcome.result) << outcome.error->what();
    EXPECT_EQ(outcome.result->output_ids, expected[i]);
  }
  EXPECT_EQ(begun, (std::vector<int32_t>{0, 1, 2, 3, 4, 5}));
  ExpectAllBlocksFree();
}

TEST_F(SchedulerTest, WhatCanNeverFitIsRefusedWithNumbersBeforeAnythingRuns) {
  Scheduler& scheduler = Start({40, 6, 4, 16});
  Job job = TextJob(Prompt(12, 0), Greedy(14));  // 25 rows
  job.id = "too long";
  const Outcome outcome = RunJob(scheduler, std::move(job));
  ASSERT_TRUE(outcome.error);
  EXPECT_EQ(outcome.error->kind(), ErrorKind::kCapacity);
  EXPECT_EQ(outcome.error->where().at("needed"), "7");
  EXPECT_EQ(outcome.error->where().at("available"), "6");
  EXPECT_EQ(outcome.error->where().at("request"), "too long");
  EXPECT_EQ(scheduler.stats().batches, 0);
  EXPECT_TRUE(RunJob(scheduler, TextJob(Prompt(12, 0), Greedy(13))).result);
}

TEST_F(SchedulerTest, JobsThatMakeNoSenseAreRefused) {
  Scheduler& scheduler = Start();
  const auto expect_refused = [&](const char* what, const std::function<void(Job*)>& spoil) {
    Job job = PictureJob(1);
    spoil(&job);
    const Outcome outcome = RunJob(scheduler, std::move(job));
    ASSERT_TRUE(outcome.error) << what;
    EXPECT_EQ(outcome.error->kind(), ErrorKind::kRequest) << what;
  };
  expect_refused("empty prompt", [](Job* job) { job->ids.clear(), job->spans.clear(); });
  expect_refused("id too large", [](Job* job) { job->ids[0] = 40; });
  expect_refused("negative id", [](Job* job) { job->ids[0] = -2; });
  expect_refused("rows of no picture", [](Job* job) { job->spans.pop_back(); });
  expect_refused("text inside a span", [](Job* job) { job->ids[6] = 3; });
  expect_refused("no such picture", [](Job* job) { job->spans[0].picture = 3; });
  expect_refused("missing picture", [](Job* job) { job->pictures[0] = nullptr; });
  expect_refused("overlap", [](Job* job) { std::swap(job->spans[0], job->spans[1]); });
  expect_refused("empty span", [](Job* job) { job->spans[0].row_count = 0; });
  expect_refused("span overflow", [](Job* job) { job->spans[2].row_count = INT64_MAX; });
  expect_refused("more rows than features",
                 [](Job* job) { job->pictures[0] = TestPicture(10, 1); });
  expect_refused("no new tokens", [](Job* job) { job->search.max_new_tokens = 0; });
  expect_refused("negative new tokens", [](Job* job) { job->search.max_new_tokens = -1; });
  expect_refused("nothing seen", [](Job* job) { job->penalty_ids.clear(); });
  ExpectAllBlocksFree();
  EXPECT_TRUE(RunJob(scheduler, PictureJob(1)).result);
}

TEST_F(SchedulerTest, ProgressIsReportedWhereAsked) {
  Scheduler& scheduler = Start({40, 200, 4, 10});
  Job job = PictureJob(1);
  job.wants_progress = true;
  std::vector<int64_t> rows;
  for (const JobEvent& event : RunJob(scheduler, std::move(job)).events) {
    if (event.kind != JobEvent::Kind::kProgress) continue;
    rows.push_back(event.rows_done);
    EXPECT_EQ(event.rows_total, 27);
  }
  EXPECT_EQ(rows, (std::vector<int64_t>{0, 0, 0, 0, 10, 20, 27}));
}

TEST_F(SchedulerTest, LaterTurnsDoNotEncodeAPictureAgain) {
  Scheduler& scheduler = Start();
  int encodings = 0;
  executor_->before_encode = [&](const Picture&) { ++encodings; };
  RunJob(scheduler, PictureJob(1));
  EXPECT_EQ(encodings, 2);
  RunJob(scheduler, PictureJob(2));
  EXPECT_EQ(encodings, 2);
  EXPECT_EQ(scheduler.stats().cached_feature_rows, 17);
}

TEST_F(SchedulerTest, FeaturesAreNotHeldLongerThanThePromptNeedsThem) {
  SchedulerOptions options = OptionsWithBase();
  options.feature_cache_rows = 0;
  Scheduler& scheduler = Start({40, 200, 4, 4}, std::move(options));
  std::vector<int64_t> held;  // when each batch began, the picture of the first one not counted
  executor_->before_forward = [&](const Batch&) {
    held.push_back(scheduler.stats().cached_feature_rows);
  };
  Job job = TextJob(Prompt(5, 1), Greedy(3));
  AppendPicture(&job, TestPicture(11, 1), 11);
  ASSERT_TRUE(RunJob(scheduler, std::move(job)).result);
  EXPECT_EQ(held, (std::vector<int64_t>{0, 11, 11, 11, 0, 0}));
}

TEST(SchedulerOptions, WhatCannotWorkIsRefusedAtOnce) {
  const auto make = [](ExecutorLimits limits, SchedulerOptions options) {
    Scheduler scheduler(std::make_unique<StandInExecutor>(limits), std::move(options));
  };
  EXPECT_THROW(make(SmallLimits(), {}), Error);
  EXPECT_THROW(make({40, 0, 4, 16}, OptionsWithBase()), Error);
  EXPECT_THROW(make({40, 10, 4, 0}, OptionsWithBase()), Error);
  EXPECT_THROW(Scheduler(nullptr, OptionsWithBase()), Error);
}

}  // namespace
}  // namespace xcomposer
