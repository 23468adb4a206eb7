// Ids that the device chooses against those that the engine's searches choose by the same scores.
#include <ATen/ops/from_blob.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <functional>
#include <random>

#include "engine/search.h"
#include "model/choice_table.h"
#include "ops_cuda/small_steps.h"
#include "xcomposer/error.h"

namespace xcomposer {
namespace {

SearchOptions Greedy(double penalty) {
  SearchOptions options;
  options.repetition_penalty = penalty;
  return options;
}

SearchOptions Sampling(uint64_t seed, double temperature, int64_t top_k, double top_p,
                       double penalty = 1.005) {
  SearchOptions options = Greedy(penalty);
  options.do_sample = true;
  options.seed = seed;
  options.temperature = temperature;
  options.top_k = top_k;
  options.top_p = top_p;
  return options;
}

/// A batch of one row for each search, without anything to run.
Batch ChoicesOf(const std::vector<std::unique_ptr<Search>>& searches) {
  Batch batch;
  for (const auto& search : searches) {
    batch.sequences.emplace_back();
    batch.sequences.back().choice = search->Choice();
  }
  return batch;
}

class ChosenIdsOnCuda : public testing::Test {
 protected:
  void SetUp() override { cuda_testing::RequireDevice(); }

  /// One id of every search on the device, -1 where it refuses.
  std::vector<int32_t> OnDevice(const std::vector<std::unique_ptr<Search>>& searches,
                                std::vector<float> scores) {
    const c10::InferenceMode inference;
    const auto rows = static_cast<int64_t>(searches.size());
    const int64_t vocab = static_cast<int64_t>(scores.size()) / rows;
    ops::ChoiceTable table =
        MakeChoiceTable(ChoicesOf(searches), vocab, cuda_testing::CudaDevice());
    const at::Tensor host = at::from_blob(scores.data(), {rows, vocab}, at::kFloat);
    const at::Tensor ids = ops::ChooseIds(cuda_testing::OnDevice(host), table).cpu();
    const auto* first = ids.const_data_ptr<int32_t>();
    return {first, first + rows};
  }

  /// Three steps of all searches over scores that `draw` makes. Returns how many ids were refused.
  int Compare(const std::vector<SearchOptions>& options, int64_t vocab,
              const std::function<float()>& draw) {
    std::vector<std::unique_ptr<Search>> searches;
    for (const SearchOptions& one : options) {
      searches.push_back(MakeSearch(one, {1, 5, 5, 7, 2}, vocab));
    }
    int refused = 0;
    for (int step = 0; step < 3; ++step) {
      std::vector<float> scores(searches.size() * static_cast<size_t>(vocab));
      for (float& score : scores) score = draw();
      const std::vector<int32_t> found = OnDevice(searches, scores);
      for (size_t s = 0; s < searches.size(); ++s) {
        const auto row =
            std::span(scores).subspan(s * static_cast<size_t>(vocab), static_cast<size_t>(vocab));
        const SearchStep by_scores = searches[s]->Advance(row);
        refused += found[s] == -1 ? 1 : 0;
        if (found[s] != -1) {
          EXPECT_EQ(found[s], by_scores.settled.at(0)) << "search " << s << ", step " << step;
        }
      }
    }
    return refused;
  }

  ModelConfig config_ = SmallModel();
  SmallSteps steps_{config_};
  cuda_testing::CudaRun cuda_;
};

std::vector<SearchOptions> ManySearches() {
  std::vector<SearchOptions> options = {Greedy(1.0), Greedy(1.005), Greedy(1.5)};
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    options.push_back(Sampling(seed << 33, 1.0, 0, 1.0));
    options.push_back(Sampling(seed, 1.0, 50, 0.8));
    options.push_back(Sampling(seed, 0.3, 0, 0.95, 1.0));
    options.push_back(Sampling(seed, 1.7, 7, 1.0, 1.3));
    options.push_back(Sampling(seed, 1.0, 1, 0.5));
    options.push_back(Sampling(seed, 1.0, 40, 0.0));
  }
  return options;
}

TEST_F(ChosenIdsOnCuda, AreTheSearchs) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal(0.0f, 2.0f);
  EXPECT_EQ(Compare(ManySearches(), 216, [&] { return normal(random); }), 0);
  EXPECT_EQ(Compare(ManySearches(), 1501, [&] { return normal(random); }), 0);
}

// Of a few values many are equal, and sums come to lie on the borders: what is decided is decided
// right, and most is.
TEST_F(ChosenIdsOnCuda, OfEqualScoresAreTheSearchsToo) {
  std::mt19937 random(4);
  const auto draw = [&] { return 0.5f * static_cast<float>(random() % 4) - 1.0f; };
  const auto options = ManySearches();
  EXPECT_LT(Compare(options, 64, draw), 3 * static_cast<int>(options.size()) / 4);
  std::vector<SearchOptions> halves;
  for (uint64_t seed = 0; seed < 8; ++seed) halves.push_back(Sampling(seed, 1.0, 0, 0.5, 1.0));
  // Half of sixteen equal scores: which eight are kept rounding decides, and the draw among them.
  EXPECT_EQ(Compare(halves, 16, [] { return 1.0f; }), 24);
}

TEST_F(ChosenIdsOnCuda, RefusesTablesOfOtherShapes) {
  const c10::InferenceMode inference;
  std::vector<std::unique_ptr<Search>> searches;
  for (int i = 0; i < 2; ++i) searches.push_back(MakeSearch(Greedy(1.1), {1}, 40));
  const at::Tensor scores = cuda_testing::OnDevice(at::zeros({2, 40}));
  const auto refused = [&](const std::function<void(ops::ChoiceTable&)>& spoil) {
    ops::ChoiceTable table = MakeChoiceTable(ChoicesOf(searches), 40, cuda_testing::CudaDevice());
    spoil(table);
    try {
      ops::ChooseIds(scores, table);
      return false;
    } catch (const Error& error) {
      return error.kind() == ErrorKind::kInternal;
    }
  };
  EXPECT_FALSE(refused([](ops::ChoiceTable&) {}));
  EXPECT_TRUE(refused([](ops::ChoiceTable& t) { t.rules = t.rules.narrow(0, 0, 1); }));
  EXPECT_TRUE(refused([](ops::ChoiceTable& t) { t.seen = t.seen.narrow(1, 0, 1); }));
  EXPECT_TRUE(refused([](ops::ChoiceTable& t) { t.steps = t.steps.to(at::kInt); }));
}

/// The steps of three sequences, chosen by `options`: ids of every step.
std::vector<std::vector<int32_t>> RunSteps(StageExecutor& executor, const SmallSteps& steps,
                                           const std::vector<SearchOptions>& options,
                                           bool on_device) {
  const int64_t vocab = executor.limits().vocab;
  std::vector<std::unique_ptr<Search>> searches;
  for (const SearchOptions& one : options) searches.push_back(MakeSearch(one, {1}, vocab));
  std::vector<std::vector<int32_t>> all;
  for (int64_t step = 0; step < SmallSteps::kSteps; ++step) {
    Batch batch = steps.At(step);
    for (size_t s = 0; on_device && s < searches.size(); ++s) {
      batch.sequences[s].choice = searches[s]->Choice();
    }
    const Logits logits = executor.Forward(batch);
    EXPECT_EQ(logits.chosen.size(), on_device ? searches.size() : 0u);
    EXPECT_EQ(logits.values.empty(), on_device);
    std::vector<int32_t>& ids = all.emplace_back();
    for (size_t s = 0; s < searches.size(); ++s) {
      const SearchStep next =
          on_device ? searches[s]->Accept(logits.chosen.at(s))
                    : searches[s]->Advance(
                          std::span(logits.values)
                              .subspan(s * static_cast<size_t>(vocab), static_cast<size_t>(vocab)));
      ids.push_back(next.settled.at(0));
    }
  }
  return all;
}

// The prompts' rows are launched one by one, the first step after them too; then graphs.
TEST_F(ChosenIdsOnCuda, OfWholeStepsAreTheSearchs) {
  const std::vector<SearchOptions> options = {Greedy(1.005), Sampling(11, 0.8, 30, 0.9),
                                              Sampling(12, 1.0, 0, 1.0, 1.0)};
  const auto by_scores = MakeSmallExecutor(config_);
  const auto expected = RunSteps(*by_scores, steps_, options, false);
  for (const bool recorded : {false, true}) {
    const auto executor = MakeSmallExecutor(config_);
    ReplayingRecorder recorder;
    if (recorded) executor->RecordSteps(recorder);
    EXPECT_EQ(RunSteps(*executor, steps_, options, true), expected);
    EXPECT_EQ(recorder.replayed, recorded ? 2 : 0);
  }
}

/// All scores of the four steps, where `spoil` changes what is asked for.
std::vector<std::vector<float>> ScoresOf(StageExecutor& executor, const SmallSteps& steps,
                                         const std::function<void(Batch&)>& spoil) {
  std::vector<std::vector<float>> all;
  for (int64_t step = 0; step < SmallSteps::kSteps; ++step) {
    Batch batch = steps.At(step);
    spoil(batch);
    const Logits logits = executor.Forward(batch);
    EXPECT_TRUE(logits.chosen.empty());
    all.push_back(logits.values);
  }
  return all;
}

TEST_F(ChosenIdsOnCuda, ScoresComeWhereOneRowNeedsThem) {
  const auto expected = ScoresOf(*MakeSmallExecutor(config_), steps_, [](Batch&) {});
  const auto one_is_silent = [](Batch& batch) {
    for (const size_t s : {0, 2}) batch.sequences[s].choice = IdChoice();
  };
  // Divided by a penalty of nothing, scores are no finite numbers.
  const auto one_cannot_be_chosen = [](Batch& batch) {
    for (const size_t s : {0, 1, 2}) batch.sequences[s].choice = IdChoice();
    IdChoice& broken = *batch.sequences[1].choice;
    for (int32_t id = 0; id < 216; ++id) broken.seen.push_back(id);
    broken.repetition_penalty = 0.0f;
  };
  const auto all_rows = [](Batch& batch) {
    for (SequenceSlice& sequence : batch.sequences) sequence.choice = IdChoice();
    batch.all_logits = batch.rows() == 3;
  };
  for (const bool recorded : {false, true}) {
    for (const auto& spoil :
         std::vector<std::function<void(Batch&)>>{one_is_silent, one_cannot_be_chosen}) {
      const auto executor = MakeSmallExecutor(config_);
      ReplayingRecorder recorder;
      if (recorded) executor->RecordSteps(recorder);
      EXPECT_EQ(ScoresOf(*executor, steps_, spoil), expected);
    }
    const auto executor = MakeSmallExecutor(config_);
    ReplayingRecorder recorder;
    if (recorded) executor->RecordSteps(recorder);
    executor->Forward(steps_.At(0));
    for (int64_t step = 1; step < SmallSteps::kSteps; ++step) {
      Batch batch = steps_.At(step);
      all_rows(batch);
      EXPECT_EQ(executor->Forward(batch).values, expected[static_cast<size_t>(step)]);
    }
  }
}

}  // namespace
}  // namespace xcomposer
