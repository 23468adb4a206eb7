#include "kernels/cuda/sampling.h"

#include <cmath>
#include <set>

#include "kernels_cuda/kernel_test.h"
#include "kernels_cuda/sampling_reference.h"

namespace xcomposer::cuda {
namespace {

class Sampling : public KernelTest {};

struct Row {
  SamplingOptions options;
  std::vector<float> logits;
  std::vector<bool> seen;
  int64_t step = 0;
};

/// Numbers of a few values only, so that many are equal, or all different.
Row MakeRow(const SamplingOptions& options, int64_t vocab, int values, uint64_t seed) {
  Random random(seed);
  Row row{options, random.Normal<float>(static_cast<size_t>(vocab), 2.5f), {}, 0};
  for (float& logit : row.logits) {
    if (values > 0) logit = static_cast<float>(random.Below(values)) * 0.5f - 1.0f;
    row.seen.push_back(random.Below(3) == 0);
  }
  row.options.seed = seed * 0x123456789ABCDEF;
  row.step = static_cast<int64_t>(seed % 5) + (int64_t{1} << 33);
  return row;
}

/// Two steps of all rows in one launch each; the second sees the first one's ids.
void Check(std::vector<Row> rows) {
  const auto vocab = static_cast<int64_t>(rows[0].logits.size());
  const auto words = static_cast<size_t>((vocab + 31) / 32);
  std::vector<float> logits;
  std::vector<SamplingOptions> options;
  std::vector<uint32_t> seen(rows.size() * words, 0);
  std::vector<int64_t> steps;
  for (size_t r = 0; r < rows.size(); ++r) {
    logits.insert(logits.end(), rows[r].logits.begin(), rows[r].logits.end());
    options.push_back(rows[r].options);
    steps.push_back(rows[r].step);
    for (size_t id = 0; id < rows[r].seen.size(); ++id) {
      if (rows[r].seen[id]) seen[r * words + id / 32] |= 1u << (id % 32);
    }
  }
  const auto actual = InEveryWay([&](const Context& context) {
    const Array<float> in(logits);
    const Array<SamplingOptions> how(options);
    const Array<uint32_t> bits(seen);
    const Array<int64_t> at(steps);
    const Array<uint64_t> partial(
        static_cast<size_t>(SamplePartialWords(static_cast<int64_t>(rows.size()), vocab)));
    const Array<int32_t> counters(std::vector<int32_t>(rows.size(), 0));
    std::vector<int32_t> chosen;
    for (int step = 0; step < 2; ++step) {
      const Array<int32_t> ids(rows.size());
      EXPECT_EQ(Finish(Sample({.logits = in.data(),
                               .rows = static_cast<int64_t>(rows.size()),
                               .vocab = vocab,
                               .options = how.data(),
                               .seen = bits.data(),
                               .steps = at.data(),
                               .ids = ids.data(),
                               .partial = partial.data(),
                               .counters = counters.data()},
                              context)),
                "");
      const std::vector<int32_t> now = ids.Read();
      chosen.insert(chosen.end(), now.begin(), now.end());
    }
    const std::vector<int64_t> after = at.Read();
    for (size_t r = 0; r < rows.size(); ++r) EXPECT_EQ(after[r], steps[r] + 2);
    return chosen;
  });
  for (int64_t step = 0; step < 2; ++step) {
    for (size_t r = 0; r < rows.size(); ++r) {
      Row& row = rows[r];
      const int32_t found = actual[static_cast<size_t>(step) * rows.size() + r];
      const int32_t expected = ReferenceSample(row.options, row.logits, row.seen, row.step + step);
      const bool refused = found == -1 && expected >= 0 &&
                           IsNearABorder(row.options, row.logits, row.seen, row.step + step);
      EXPECT_TRUE(refused || found == expected)
          << found << ", expected " << expected << ", row " << r << ", step " << step
          << ", vocabulary " << vocab;
      if (found >= 0) row.seen[static_cast<size_t>(found)] = true;
    }
  }
}

// One id, less than a thread each, ragged words, more ids than the list of candidates holds.
constexpr int64_t kVocabs[] = {1, 33, 700, 1700};

SamplingOptions Drawn(float temperature, int32_t top_k, float dropped_mass, float penalty) {
  return {.temperature = temperature,
          .dropped_mass = dropped_mass,
          .repetition_penalty = penalty,
          .top_k = top_k,
          .do_sample = 1};
}

TEST_F(Sampling, GreedyTakesTheFirstOfTheLargest) {
  for (const int64_t vocab : kVocabs) {
    Check({MakeRow({}, vocab, 0, 1), MakeRow({}, vocab, 5, 2),
           MakeRow({.repetition_penalty = 1.7f}, vocab, 0, 3),
           MakeRow({.repetition_penalty = 1.7f}, vocab, 4, 4)});
  }
}

TEST_F(Sampling, DrawsAreTheReferences) {
  for (const int64_t vocab : kVocabs) {
    std::vector<Row> rows;
    uint64_t seed = 10;
    for (const int values : {0, 6}) {
      for (const SamplingOptions& options :
           {Drawn(1.0f, 0, 0.0f, 1.0f), Drawn(0.7f, 7, 0.0f, 1.3f), Drawn(1.0f, 0, 0.2f, 1.0f),
            Drawn(1.3f, 50, 0.3f, 1.005f), Drawn(1.0f, 1, 0.0f, 1.0f),
            Drawn(2.0f, 1500, 0.1f, 1.0f), Drawn(1.0f, 40, 1.0f, 1.0f),
            Drawn(1.0f, 0, 0.97f, 1.2f)}) {
        rows.push_back(MakeRow(options, vocab, values, seed++));
      }
    }
    Check(rows);
  }
}

// A vocabulary of several blocks: of one id in the last, of two whole ones and a part of the third.
// Scores of 40 values tie the last of the best across blocks; there are more of those than a block
// offers where they are 6 values.
TEST_F(Sampling, SeveralBlocksChooseTogether) {
  for (const int64_t vocab : {2049, 5000}) {
    std::vector<Row> rows;
    uint64_t seed = 100;
    for (const int values : {0, 40, 6}) {
      for (const SamplingOptions& options :
           {SamplingOptions{.repetition_penalty = 1.2f}, Drawn(1.0f, 1, 0.0f, 1.0f),
            Drawn(0.8f, 50, 0.2f, 1.005f), Drawn(1.0f, 100, 0.4f, 1.1f),
            Drawn(1.0f, 101, 0.4f, 1.0f), Drawn(3.0f, 0, 0.1f, 1.3f),
            Drawn(1.0f, 2500, 0.3f, 1.0f)}) {
        rows.push_back(MakeRow(options, vocab, values, seed++));
      }
    }
    Check(rows);
  }
}

// All of the best lie in one block, and in another one a score that no penalty leaves finite.
TEST_F(Sampling, OneBlockMayHaveAllOfTheBest) {
  Row row = MakeRow(Drawn(1.0f, 60, 0.1f, 1.0f), 6000, 0, 130);
  for (size_t id = 2048; id < 4096; ++id) row.logits[id] += 100.0f;
  Row broken = MakeRow(Drawn(1.0f, 60, 0.1f, 1.0f), 6000, 0, 131);
  broken.logits[5000] = INFINITY;
  Check({row, broken, MakeRow(Drawn(1.0f, 60, 0.1f, 1.0f), 6000, 0, 132)});
}

// More offers than the last block has room for: it looks at all of the vocabulary again.
TEST_F(Sampling, MoreOffersThanFitAreNotMissed) {
  Check({MakeRow(Drawn(1.0f, 100, 0.3f, 1.0f), 64 * 2048, 0, 140)});
}

// All equal: top-k keeps every one of them, and top-p drops the smallest ids.
TEST_F(Sampling, EqualScoresAllStay) {
  Check({MakeRow(Drawn(1.0f, 3, 0.0f, 1.0f), 1700, 1, 40),
         MakeRow(Drawn(1.0f, 3, 0.75f, 1.0f), 1700, 1, 41),
         MakeRow(Drawn(1.0f, 3, 0.7503f, 1.0f), 1700, 1, 41),
         MakeRow(Drawn(1.0f, 3, 1.0f, 1.0f), 1700, 1, 42)});
}

/// A step of `row` at which the draw falls `distance` (in parts of all mass) behind a border of
/// sixteen equal scores.
Row DrawnBehindABorder(double distance) {
  Row row = MakeRow(Drawn(1.0f, 0, 0.0f, 1.0f), 16, 1, 0);
  for (row.step = 0;; ++row.step) {
    const double place = 16 * UniformAt(row.options.seed, static_cast<uint64_t>(row.step));
    const double behind = place - std::floor(place);
    if (place > 1 && behind > 8 * distance && behind < 16 * distance) return row;
  }
}

/// What the kernel gives for the row's first step.
int32_t Chosen(const Row& row) {
  const auto vocab = static_cast<int64_t>(row.logits.size());
  return InEveryWay([&](const Context& context) {
    const Array<float> in(row.logits);
    const Array<SamplingOptions> how(std::vector{row.options});
    const Array<uint32_t> bits(std::vector<uint32_t>(static_cast<size_t>(vocab + 31) / 32, 0));
    const Array<int64_t> at(std::vector{row.step});
    const Array<int32_t> ids(1);
    const Array<uint64_t> partial(static_cast<size_t>(SamplePartialWords(1, vocab)));
    const Array<int32_t> counters(std::vector<int32_t>{0});
    EXPECT_EQ(Finish(Sample({.logits = in.data(),
                             .rows = 1,
                             .vocab = vocab,
                             .options = how.data(),
                             .seen = bits.data(),
                             .steps = at.data(),
                             .ids = ids.data(),
                             .partial = partial.data(),
                             .counters = counters.data()},
                            context)),
              "");
    return ids.Read();
  })[0];
}

// The same best score in several blocks: greedy takes the first one's, whichever block ends last,
// and all of them stay in top-k.
TEST_F(Sampling, TiesAcrossBlocksKeepTheirOrder) {
  Row row = MakeRow({}, 6000, 0, 120);
  row.seen.assign(6000, false);
  for (const size_t id : {2047, 2048, 4100, 5999}) row.logits[id] = 40.0f;
  EXPECT_EQ(Chosen(row), 2047);
  row.options = Drawn(1.0f, 2, 0.0f, 1.0f);
  std::set<int32_t> drawn;
  for (row.step = 0; row.step < 24; ++row.step) drawn.insert(Chosen(row));
  EXPECT_EQ(drawn, (std::set<int32_t>{2047, 2048, 4100, 5999}));
}

// What rounding would decide is left to the engine, and nothing else is.
TEST_F(Sampling, DrawsNearABorderAreRefused) {
  EXPECT_EQ(Chosen(DrawnBehindABorder(0x1p-22)), -1);
  EXPECT_GE(Chosen(DrawnBehindABorder(0x1p-18)), 0);
  // Half of the mass lies exactly on the border of the eighth id.
  Row row = MakeRow(Drawn(1.0f, 0, 0.5f, 1.0f), 16, 1, 3);
  EXPECT_EQ(Chosen(row), -1);
  row.options.dropped_mass = 0.5f + 0x1p-16f;
  EXPECT_GE(Chosen(row), 0);
  row.options.dropped_mass = 0.5f - 0x1p-16f;
  EXPECT_GE(Chosen(row), 0);
}

// Zero has two signs, and they are equal.
TEST_F(Sampling, ZerosAreEqual) {
  Row row = MakeRow({}, 33, 1, 5);
  row.logits.assign(33, -1.0f);
  row.logits[7] = -0.0f;
  row.logits[20] = 0.0f;
  EXPECT_EQ(Chosen(row), 7);
  row.options = Drawn(1.0f, 1, 0.0f, 1.0f);
  std::set<int32_t> drawn;
  for (row.step = 0; row.step < 12; ++row.step) drawn.insert(Chosen(row));
  EXPECT_EQ(drawn, (std::set<int32_t>{7, 20}));
}

// A penalty so small that a score overflows.
TEST_F(Sampling, ScoresThatOverflowAreRefused) {
  Row row = MakeRow({.repetition_penalty = 1e-38f}, 33, 0, 6);
  row.seen.assign(33, true);
  row.logits[3] = 30.0f;
  Check({row});
}

TEST_F(Sampling, BrokenLogitsAreTold) {
  for (const float broken : {NAN, INFINITY, -INFINITY}) {
    Row row = MakeRow(Drawn(1.0f, 3, 0.0f, 1.0f), 700, 0, 50);
    row.logits[699] = broken;
    Row good = MakeRow({}, 700, 0, 51);
    Check({row, good});
  }
}

// Large and far apart: differences beyond the first digit's range, and weights that vanish.
TEST_F(Sampling, ScoresMayBeFarApart) {
  std::vector<Row> rows;
  for (uint64_t seed = 60; seed < 63; ++seed) {
    Row row = MakeRow(Drawn(1.0f, seed == 61 ? 20 : 0, 0.05f, 1.0f), 700, 0, seed);
    for (float& logit : row.logits) logit *= 40.0f;
    rows.push_back(row);
  }
  Check(rows);
}

TEST_F(Sampling, RefusesTooLargeAVocabularyAndNoMemory) {
  const Array<uint64_t> partial(static_cast<size_t>(SamplePartialWords(1, 5)));
  const Array<int32_t> counters(1);
  SampleParams params{
      .rows = 1, .vocab = 1 << 24, .partial = partial.data(), .counters = counters.data()};
  EXPECT_EQ(Sample(params, Ways()[0]), cudaErrorInvalidValue);
  params.vocab = 0;
  EXPECT_EQ(Sample(params, Ways()[0]), cudaErrorInvalidValue);
  params.vocab = 5;
  params.rows = 0;
  EXPECT_EQ(Finish(Sample(params, Ways()[0])), "");
  params.partial = nullptr;
  EXPECT_EQ(Sample(params, Ways()[0]), cudaErrorInvalidValue);
  params.partial = partial.data();
  params.counters = nullptr;
  EXPECT_EQ(Sample(params, Ways()[0]), cudaErrorInvalidValue);
}

}  // namespace
}  // namespace xcomposer::cuda
