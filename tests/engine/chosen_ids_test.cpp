// Ids that the executor chooses itself, where it may.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>

#include "engine/counter_random.h"
#include "engine/sampler.h"
#include "engine/scheduler_fixture.h"
#include "engine/score_processors.h"

namespace xcomposer {
namespace {

using namespace testing;  // the fixture of this folder

/// What an executor must do with a choice, by the engine's own rules.
int32_t ByTheRules(std::span<const float> scores, const IdChoice& choice) {
  std::vector<float> processed(scores.begin(), scores.end());
  PenaliseRepetition(choice.repetition_penalty, choice.seen, processed);
  if (!choice.do_sample) {
    return static_cast<int32_t>(std::max_element(processed.begin(), processed.end()) -
                                processed.begin());
  }
  SearchOptions options;
  options.do_sample = true;
  options.temperature = choice.temperature;
  options.top_k = choice.top_k;
  options.top_p = 1.0 - static_cast<double>(choice.dropped_mass);
  return Draw(SamplingDistribution(options, processed), UniformAt(choice.seed, choice.step));
}

SearchOptions Sampling(uint64_t seed) {
  SearchOptions options = Greedy(15);
  options.do_sample = true;
  options.temperature = 0.75;
  options.top_k = 12;
  options.top_p = 0.875;
  options.seed = seed;
  return options;
}

class ChosenIds : public ::testing::Test {
 protected:
  Scheduler& Start(bool chooses_ids) {
    limits_ = SmallLimits();
    limits_.chooses_ids = chooses_ids;
    auto executor = std::make_unique<StandInExecutor>(limits_);
    executor_ = executor.get();
    executor_->choose = [this](std::span<const float> scores, const IdChoice& choice) {
      ++chosen_;
      return refuse_every_ > 0 && chosen_ % refuse_every_ == 0 ? -1 : ByTheRules(scores, choice);
    };
    scheduler_ = std::make_unique<Scheduler>(std::move(executor), OptionsWithBase(30));
    return *scheduler_;
  }

  /// All kinds of searches that leave the choice to the executor.
  static std::vector<Job> Plain() {
    std::vector<Job> jobs;
    jobs.push_back(TextJob({1, 5, 9, 3}, Greedy(20)));
    jobs.push_back(TextJob({1, 7, 7, 2, 30, 4, 8, 1, 2, 3, 4, 5}, Sampling(77)));
    jobs.back().penalty_ids = jobs.back().ids;
    SearchOptions plain = Greedy(9);
    plain.repetition_penalty = 1.0;
    jobs.push_back(TextJob({3, 3}, plain));
    SearchOptions open = Sampling(5);
    open.temperature = 1.0;
    open.top_k = 0;
    open.top_p = 1.0;
    jobs.push_back(TextJob({8, 1, 6}, open));
    jobs.push_back(TextJob({2, 4, 6, 8, 10, 12}, Greedy(40)));  // beyond the position table
    jobs.back().text_path = true;
    return jobs;
  }

  /// Those whose search must see the scores.
  static std::vector<Job> Others() {
    std::vector<Job> jobs;
    SearchOptions beams = Greedy(8);
    beams.num_beams = 3;
    jobs.push_back(TextJob({1, 5}, beams));
    SearchOptions ngrams = Greedy(20);
    ngrams.no_repeat_ngram_size = 1;
    jobs.push_back(TextJob({1, 6}, ngrams));
    return jobs;
  }

  void ExpectSearchsIds(std::vector<Job> jobs) {
    std::vector<std::pair<JobId, std::vector<int32_t>>> expected;
    for (Job& job : jobs) {
      auto ids = Expected(job, limits_, GrowingBase(30)).ids;
      expected.emplace_back(scheduler_->Submit(std::move(job)), std::move(ids));
    }
    for (const auto& [id, ids] : expected) {
      const Outcome outcome = WaitFor(*scheduler_, id);
      ASSERT_TRUE(outcome.result) << outcome.error->what();
      EXPECT_EQ(outcome.result->output_ids, ids);
    }
  }

  ExecutorLimits limits_;
  StandInExecutor* executor_ = nullptr;
  std::atomic<int> chosen_{0};
  int refuse_every_ = 0;
  std::unique_ptr<Scheduler> scheduler_;
};

TEST_F(ChosenIds, AreTheSearchs) {
  for (size_t i = 0; i < Plain().size(); ++i) {
    Start(true);
    std::vector<Job> one;
    one.push_back(std::move(Plain()[i]));
    const int64_t ids = one[0].search.max_new_tokens;
    chosen_ = 0;
    ExpectSearchsIds(std::move(one));
    EXPECT_EQ(chosen_, ids);  // none was chosen by its scores
  }
  Start(true);
  ExpectSearchsIds(Plain());
}

TEST_F(ChosenIds, MixWithSearchesThatSeeTheScores) {
  Start(true);
  std::vector<Job> jobs = Plain();
  for (Job& job : Others()) jobs.push_back(std::move(job));
  ExpectSearchsIds(std::move(jobs));
  chosen_ = 0;
  ExpectSearchsIds(Others());
  EXPECT_EQ(chosen_, 0);
}

TEST_F(ChosenIds, ScoresMayComeAfterAll) {
  for (const int every : {1, 3}) {
    refuse_every_ = every;
    Start(true);
    ExpectSearchsIds(Plain());
  }
}

TEST_F(ChosenIds, AMinimumIsKeptByTheScores) {
  Start(true);
  Job job = TextJob({1, 5, 9, 3}, Greedy(12));
  const auto free = Expected(job, limits_, GrowingBase(30)).ids;
  job.search.eos_token_id = {free[2]};
  job.search.min_new_tokens = 5;
  const auto expected = Expected(job, limits_, GrowingBase(30)).ids;
  chosen_ = 0;
  const Outcome outcome = RunJob(*scheduler_, std::move(job));
  EXPECT_EQ(outcome.result->output_ids, expected);
  EXPECT_EQ(chosen_, static_cast<int>(expected.size()) - 5);
}

// The stand-in refuses numbers that cannot be computed with.
TEST_F(ChosenIds, NumbersBeyondFloatAreLeftToTheSearch) {
  Start(true);
  std::vector<Job> jobs;
  jobs.push_back(TextJob({1, 5, 9, 3}, Sampling(77)));
  jobs.back().search.temperature = 1e200;
  jobs.push_back(TextJob({1, 5, 9, 3}, Greedy(12)));
  jobs.back().search.repetition_penalty = 1e200;
  ExpectSearchsIds(std::move(jobs));
  EXPECT_EQ(chosen_, 0);
}

TEST_F(ChosenIds, WhoWantsToSeeTheScoresGetsThem) {
  Start(true);
  Job job = TextJob({1, 5, 9, 3}, Greedy(6));
  std::vector<int64_t> shape;
  job.taps.wants = [](const std::string& name) { return name == "logits"; };
  job.taps.put = [&](Tap&& tap) { shape = tap.shape; };
  EXPECT_TRUE(RunJob(*scheduler_, std::move(job)).result);
  EXPECT_EQ(shape, (std::vector<int64_t>{6, limits_.vocab}));
  EXPECT_EQ(chosen_, 0);
}

// The stand-in refuses choices that it did not offer to make.
TEST_F(ChosenIds, AreNotAskedForWhereNobodyChooses) {
  Start(false);
  executor_->choose = nullptr;
  ExpectSearchsIds(Plain());
}

TEST_F(ChosenIds, ThatCannotBeAreRefused) {
  Start(true);
  executor_->choose = [this](std::span<const float>, const IdChoice&) {
    return static_cast<int32_t>(limits_.vocab);
  };
  const Outcome outcome = RunJob(*scheduler_, TextJob({1, 5}, Greedy(4)));
  ASSERT_TRUE(outcome.error);
  EXPECT_EQ(outcome.error->kind(), ErrorKind::kInternal);
}

}  // namespace
}  // namespace xcomposer
