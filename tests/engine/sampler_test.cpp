#include "engine/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>

#include "engine/counter_random.h"
#include "engine/score_processors.h"
#include "xcomposer/error.h"

namespace xcomposer {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

SearchOptions Sampling(int64_t top_k, double top_p) {
  SearchOptions options;
  options.do_sample = true;
  options.top_k = top_k;
  options.top_p = top_p;
  return options;
}

std::vector<int32_t> Ids(const std::vector<Candidate>& candidates) {
  std::vector<int32_t> ids;
  for (const Candidate& candidate : candidates) ids.push_back(candidate.id);
  return ids;
}

TEST(SamplingDistribution, TopKKeepsTiesWithTheLast) {
  const std::vector<float> scores = {1, 3, 2, 2, 0};
  EXPECT_EQ(Ids(SamplingDistribution(Sampling(2, 1.0), scores)), (std::vector<int32_t>{1, 2, 3}));
  EXPECT_EQ(SamplingDistribution(Sampling(0, 1.0), scores).size(), 5u);
  EXPECT_EQ(SamplingDistribution(Sampling(99, 1.0), scores).size(), 5u);
}

TEST(SamplingDistribution, TopPDropsASumThatEqualsTheLimit) {
  const std::vector<float> halves = {0, 0};
  // 0.5 <= 1 - 0.5 goes: the smaller id, which an ascending stable sort has first.
  EXPECT_EQ(Ids(SamplingDistribution(Sampling(0, 0.5), halves)), (std::vector<int32_t>{1}));
  EXPECT_EQ(Ids(SamplingDistribution(Sampling(0, 0.51), halves)), (std::vector<int32_t>{0, 1}));
}

TEST(SamplingDistribution, TheBestStaysWhateverTopPSays) {
  EXPECT_EQ(Ids(SamplingDistribution(Sampling(0, 0.0), std::vector<float>{1, 5, 2})),
            (std::vector<int32_t>{1}));
}

TEST(SamplingDistribution, TemperatureComesBeforeTopP) {
  const std::vector<float> scores = {0, 2};
  EXPECT_EQ(SamplingDistribution(Sampling(0, 0.8), scores).size(), 1u);  // 0.88 alone
  SearchOptions hot = Sampling(0, 0.8);
  hot.temperature = 4;
  const auto candidates = SamplingDistribution(hot, scores);  // 0.62 and 0.38
  ASSERT_EQ(candidates.size(), 2u);
  EXPECT_NEAR(candidates[0].probability, 1 / (1 + std::exp(-0.5)), 1e-6);
}

TEST(SamplingDistribution, ForbiddenIdsAreLeftOut) {
  const std::vector<float> scores = {1, -kInfinity, 2};
  EXPECT_EQ(Ids(SamplingDistribution(Sampling(0, 1.0), scores)), (std::vector<int32_t>{2, 0}));
  const std::vector<float> nothing = {-kInfinity, -kInfinity};
  EXPECT_THROW(SamplingDistribution(Sampling(0, 1.0), nothing), Error);
}

TEST(Draw, FollowsTheProbabilities) {
  const std::vector<Candidate> candidates = {{5, 0.5f}, {9, 0.25f}, {1, 0.25f}};
  EXPECT_EQ(Draw(candidates, 0.0), 1);
  EXPECT_EQ(Draw(candidates, 0.2499), 1);
  EXPECT_EQ(Draw(candidates, 0.25), 5);
  EXPECT_EQ(Draw(candidates, 0.75), 9);
  EXPECT_EQ(Draw(candidates, std::nextafter(1.0, 0.0)), 9);
  std::map<int32_t, int> counts;
  for (uint64_t step = 0; step < 8000; ++step) ++counts[Draw(candidates, UniformAt(3, step))];
  EXPECT_NEAR(counts[5], 4000, 200);
  EXPECT_NEAR(counts[9], 2000, 200);
}

// The same request in another batch has scores that differ in their last bits.
TEST(Draw, NearlyEqualScoresDoNotTradePlaces) {
  const std::vector<float> alone = {1.0f, 2.0f, std::nextafter(2.0f, 3.0f), 0.5f};
  const std::vector<float> batched = {1.0f, std::nextafter(2.0f, 3.0f), 2.0f, 0.5f};
  const SearchOptions options = Sampling(0, 1.0);
  for (const double uniform : {0.05, 0.2, 0.4, 0.6, 0.8, 0.95}) {
    EXPECT_EQ(Draw(SamplingDistribution(options, alone), uniform),
              Draw(SamplingDistribution(options, batched), uniform))
        << uniform;
  }
}

TEST(ScoreProcessors, AnIdPresentTwiceIsPenalisedOnce) {
  std::vector<float> scores = {4, -4, 4, 0};
  PenaliseRepetition(2.0f, std::vector<int32_t>{0, 1, 0, 1, 3}, scores);
  EXPECT_EQ(scores, (std::vector<float>{2, -8, 4, 0}));
}

TEST(ScoreProcessors, RepeatedNgramsAreForbidden) {
  std::vector<float> scores(5, 1.0f);
  ForbidRepeatedNgrams(2, std::vector<int32_t>{1, 2, 3, 1, 4, 1}, scores);
  EXPECT_EQ(scores, (std::vector<float>{1, 1, -kInfinity, 1, -kInfinity}));
  scores.assign(5, 1.0f);
  ForbidRepeatedNgrams(1, std::vector<int32_t>{0, 3}, scores);
  EXPECT_EQ(scores, (std::vector<float>{-kInfinity, 1, 1, -kInfinity, 1}));
  scores.assign(5, 1.0f);
  ForbidRepeatedNgrams(4, std::vector<int32_t>{0, 3}, scores);
  EXPECT_EQ(scores, std::vector<float>(5, 1.0f));
}

TEST(ScoreProcessors, MinimumLengthsForbidTheStopIds) {
  SearchOptions options;
  options.eos_token_id = {1, 77};  // one of them outside the vocabulary
  options.min_length = 3;
  const std::vector<int32_t> seen = {0, 0};
  std::vector<float> scores = {1, 1, 1};
  ProcessScores(options, seen, 1, scores);
  EXPECT_EQ(scores, (std::vector<float>{1, -kInfinity, 1}));
  options.min_length = 2;
  options.min_new_tokens = 2;
  scores = {1, 1, 1};
  ProcessScores(options, seen, 1, scores);
  EXPECT_EQ(scores, (std::vector<float>{1, -kInfinity, 1}));
  scores = {1, 1, 1};
  ProcessScores(options, seen, 2, scores);
  EXPECT_EQ(scores, (std::vector<float>{1, 1, 1}));
}

TEST(ScoreProcessors, LogSoftmaxSurvivesLargeScores) {
  std::vector<float> scores = {1000, 1000, -kInfinity};
  LogSoftmax(scores);
  EXPECT_FLOAT_EQ(scores[0], std::log(0.5f));
  EXPECT_EQ(scores[2], -kInfinity);
}

}  // namespace
}  // namespace xcomposer
