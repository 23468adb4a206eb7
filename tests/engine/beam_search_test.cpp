#include "engine/beam_search.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "engine/counter_random.h"
#include "engine/token_search.h"
#include "xcomposer/error.h"

namespace xcomposer {
namespace {

SearchOptions Beams(int64_t num_beams, EarlyStop early) {
  SearchOptions options;
  options.num_beams = num_beams;
  options.early_stopping = early;
  options.eos_token_id = {0};
  return options;
}

TEST(Hypotheses, KeepsTheBestAndNormalisesByLength) {
  Hypotheses hypotheses(Beams(2, EarlyStop::kNo));
  hypotheses.Add({1, 1}, -4, true);        // -2
  hypotheses.Add({2, 2, 2, 2}, -4, true);  // -1
  hypotheses.Add({3, 3}, -6, true);        // -3: worse than both
  EXPECT_EQ(hypotheses.best().ids, (std::vector<int32_t>{2, 2, 2, 2}));
  EXPECT_TRUE(hypotheses.Settled(-8, 4, 100));  // -2 cannot beat the worst kept
  EXPECT_FALSE(hypotheses.Settled(-7.9, 4, 100));
  hypotheses.Add({4}, -0.5, false);  // replaces the first
  EXPECT_EQ(hypotheses.best().score, -0.5);
  EXPECT_TRUE(hypotheses.Settled(-4, 4, 100));
  EXPECT_FALSE(hypotheses.Settled(-3.9, 4, 100));
}

TEST(Hypotheses, OfEqualOnesTheLastWins) {
  Hypotheses hypotheses(Beams(3, EarlyStop::kNo));
  hypotheses.Add({1}, -1, true);
  hypotheses.Add({2}, -1, true);
  EXPECT_EQ(hypotheses.best().ids, (std::vector<int32_t>{2}));
}

TEST(Hypotheses, EarlyStopDecidesWhenToEnd) {
  const auto settled = [](EarlyStop early, double length_penalty, double best_sum) {
    SearchOptions options = Beams(2, early);
    options.length_penalty = length_penalty;
    Hypotheses hypotheses(options);
    hypotheses.Add({1, 1}, -2, true);
    EXPECT_FALSE(hypotheses.Settled(-1000, 4, 10)) << "before all have finished";
    hypotheses.Add({2, 2}, -2, true);
    return hypotheses.Settled(best_sum, 4, 10);  // worst kept: -1 with length penalty 1
  };
  EXPECT_TRUE(settled(EarlyStop::kYes, 1, -0.1));
  EXPECT_TRUE(settled(EarlyStop::kNo, 1, -5));      // -5 / 4
  EXPECT_FALSE(settled(EarlyStop::kNever, 1, -5));  // -5 / 10
  EXPECT_TRUE(settled(EarlyStop::kNever, 1, -10.1));
  EXPECT_TRUE(settled(EarlyStop::kNever, 0, -2.5));  // without a bonus for length: by the sums
  EXPECT_FALSE(settled(EarlyStop::kNever, 0, -1.5));
}

TEST(BeamSearch, RefusesScoresThatAreNoNumbers) {
  for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
    const auto beams = MakeSearch(Beams(2, EarlyStop::kNo), {1}, 3);
    const auto greedy = MakeSearch(SearchOptions{}, {1}, 3);
    const std::vector<float> scores = {0, bad, 0};
    EXPECT_THROW(beams->Advance(scores), Error);
    EXPECT_THROW(greedy->Advance(scores), Error);
  }
}

TEST(BeamSearch, AnInterruptedSearchGivesTheBestSoFarWithoutAnEndId) {
  const auto search = MakeSearch(Beams(2, EarlyStop::kNo), {1}, 5);
  EXPECT_TRUE(search->Output().ids.empty());
  const SearchStep step = search->Advance(std::vector<float>{-9, 1, 3, 2, 0});
  EXPECT_TRUE(step.settled.empty());
  ASSERT_EQ(step.next.size(), 2u);
  EXPECT_EQ(step.next[0].parent, 0);
  EXPECT_EQ(step.next[1].parent, 0);  // all beams start from the one prompt
  EXPECT_EQ(step.next[1].id, 3);
  EXPECT_EQ(search->width(), 2);
  EXPECT_EQ(search->Output().ids, (std::vector<int32_t>{2}));
  EXPECT_FALSE(search->Output().stopped);
}

// The published searches do not tell a search without this rule from one with it.
TEST(BeamSearch, AStopIdThatIsNotAmongTheBestIsDropped) {
  SearchOptions options = Beams(2, EarlyStop::kYes);
  options.eos_token_id = {0, 3};
  const auto search = MakeSearch(options, {1}, 5);
  // By rank: 0 (a stop id, kept), 1, 3 (a stop id of rank 2, dropped), 2.
  const SearchStep step = search->Advance(std::vector<float>{4, 3, 1, 2, 0});
  ASSERT_EQ(step.next.size(), 2u) << "two finished answers would have ended the search";
  EXPECT_EQ(step.next[0].id, 1);
  EXPECT_EQ(step.next[1].id, 2);
}

TEST(BeamSearch, EqualCandidatesAreTakenByBeamThenById) {
  const auto search = MakeSearch(Beams(2, EarlyStop::kNo), {1}, 5);
  const SearchStep first = search->Advance(std::vector<float>(5, 0.0f));
  EXPECT_EQ(first.next[0].id, 1);  // 0 is the stop id
  EXPECT_EQ(first.next[1].id, 2);
  const SearchStep second = search->Advance(std::vector<float>(10, 0.0f));
  EXPECT_EQ(second.next[0].parent, 0);
  EXPECT_EQ(second.next[1].parent, 0);
}

TEST(BeamSearch, WrongNumberOfScoresIsAnInternalError) {
  const auto search = MakeSearch(Beams(2, EarlyStop::kNo), {1}, 5);
  EXPECT_THROW(search->Advance(std::vector<float>(10)), Error);
}

TEST(TokenSearch, GreedyTakesTheSmallestOfEqualIds) {
  const auto search = MakeSearch(SearchOptions{}, {1}, 4);
  EXPECT_EQ(search->Advance(std::vector<float>{0, 3, 3, 1}).settled, (std::vector<int32_t>{1}));
}

TEST(TokenSearch, EachStepDrawsItsOwnNumber) {
  SearchOptions options;
  options.do_sample = true;
  options.seed = 5;
  const auto search = MakeSearch(options, {1}, 50);
  const std::vector<float> even(50, 0.0f);
  for (uint64_t step = 0; step < 20; ++step) {
    const auto expected = static_cast<int32_t>(UniformAt(5, step) * 50);
    EXPECT_EQ(search->Advance(even).settled, (std::vector<int32_t>{expected})) << "step " << step;
  }
}

TEST(TokenSearch, EndsAtAnyStopIdAndAtTheLength) {
  SearchOptions options;
  options.eos_token_id = {2, 3};
  options.max_new_tokens = 2;
  auto search = MakeSearch(options, {1}, 4);
  EXPECT_TRUE(search->Advance(std::vector<float>{0, 0, 0, 1}).next.empty());
  EXPECT_TRUE(search->Output().stopped);
  search = MakeSearch(options, {1}, 4);
  EXPECT_EQ(search->Advance(std::vector<float>{1, 0, 0, 0}).next.size(), 1u);
  EXPECT_TRUE(search->Advance(std::vector<float>{1, 0, 0, 0}).next.empty());
  EXPECT_FALSE(search->Output().stopped);
  EXPECT_EQ(search->Output().ids, (std::vector<int32_t>{0, 0}));
}

}  // namespace
}  // namespace xcomposer
