#include "engine/score_processors.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "xcomposer/error.h"

namespace xcomposer {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// Around every boundary: lanes of 16, blocks of 4096, and what is left of them.
const size_t kSizes[] = {1, 2, 15, 16, 17, 100, 4095, 4096, 4097, 4112, 9001, 12'288};

TEST(ScoreProcessors, LargestIsTheFirstOfEqualOnes) {
  for (const size_t size : kSizes) {
    for (const size_t place : {size_t{0}, size / 3, size / 2, size - 1}) {
      std::vector<float> scores(size, -2.5f);
      scores[place] = -1.0f;
      EXPECT_EQ(LargestOf(scores), place) << size;
      scores.back() = -1.0f;
      EXPECT_EQ(LargestOf(scores), place) << size;
      scores[place] = 0.0f;
      scores.back() = place == size - 1 ? 0.0f : -0.0f;
      EXPECT_EQ(LargestOf(scores), place) << size;
      scores[place] = -0.0f;
      scores.back() = 0.0f;
      EXPECT_EQ(LargestOf(scores), place) << size;
    }
    std::vector<float> scores(size);
    uint32_t random = 7;
    for (float& score : scores) {
      random = random * 1'664'525 + 1'013'904'223;
      score = static_cast<float>(random >> 24) - 200.0f;
    }
    const auto expected = std::max_element(scores.begin(), scores.end()) - scores.begin();
    EXPECT_EQ(LargestOf(scores), static_cast<size_t>(expected)) << size;
  }
}

TEST(ScoreProcessors, ForbiddenScoresAreNeverTheLargest) {
  for (const size_t size : kSizes) {
    std::vector<float> scores(size, -kInfinity);
    EXPECT_EQ(LargestOf(scores), 0u);
    scores.back() = std::numeric_limits<float>::lowest();
    EXPECT_EQ(LargestOf(scores), size - 1);
  }
}

TEST(ScoreProcessors, NumbersThatAreNoneAreNamed) {
  for (const size_t size : kSizes) {
    std::vector<float> scores(size, std::numeric_limits<float>::max());
    EXPECT_NO_THROW(CheckFinite(scores, 3));
    for (const size_t place : {size_t{0}, size / 2, size - 1}) {
      for (const float broken : {kInfinity, -kInfinity, std::numeric_limits<float>::quiet_NaN()}) {
        std::vector<float> spoilt = scores;
        spoilt[place] = broken;
        try {
          CheckFinite(spoilt, 3);
          ADD_FAILURE() << broken << " at " << place << " of " << size;
        } catch (const Error& error) {
          EXPECT_EQ(error.kind(), ErrorKind::kCheckpoint);
          EXPECT_NE(std::string(error.what()).find("id " + std::to_string(place) + " for new id 3"),
                    std::string::npos)
              << error.what();
        }
      }
    }
  }
}

/// Where ProcessesScores says that nothing would change, nothing does.
TEST(ScoreProcessors, KnowsWhetherItHasWork) {
  const std::vector<int32_t> seen = {4, 2, 4};
  SearchOptions plain;
  plain.repetition_penalty = 1.0;
  plain.no_repeat_ngram_size = 0;
  plain.min_length = 3;
  plain.min_new_tokens = 1;
  plain.eos_token_id = {2};
  std::vector<float> scores = {1, -2, 3, -4, 5};
  const std::vector<float> before = scores;
  EXPECT_FALSE(ProcessesScores(plain, seen, 1));
  ProcessScores(plain, seen, 1, scores);
  EXPECT_EQ(scores, before);
  const auto works = [&](auto change, int64_t new_ids) {
    SearchOptions options = plain;
    change(options);
    std::vector<float> changed = before;
    ProcessScores(options, seen, new_ids, changed);
    return ProcessesScores(options, seen, new_ids) && changed != before;
  };
  EXPECT_TRUE(works([](SearchOptions& o) { o.repetition_penalty = 1.5; }, 1));
  EXPECT_TRUE(works([](SearchOptions& o) { o.no_repeat_ngram_size = 1; }, 1));
  EXPECT_TRUE(works([](SearchOptions& o) { o.min_length = 4; }, 1));
  EXPECT_TRUE(works([](SearchOptions&) {}, 0));
}

}  // namespace
}  // namespace xcomposer
