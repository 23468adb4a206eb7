#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <span>

#include "engine/golden_taps.h"
#include "engine/sampler.h"
#include "engine/score_processors.h"
#include "engine/search.h"

/// The searches against ids that the reference library produced: no model is run, the scores are
/// given.
namespace xcomposer {
namespace {

using nlohmann::json;
using testing::FloatTensor;
using testing::GoldenTaps;

SearchOptions OptionsOf(const json& generate) {
  SearchOptions options;
  options.max_new_tokens = generate.at("max_new_tokens");
  options.num_beams = generate.at("num_beams");
  options.repetition_penalty = generate.at("repetition_penalty");
  options.length_penalty = generate.at("length_penalty");
  options.eos_token_id = generate.at("eos_token_id").get<std::vector<int32_t>>();
  return options;
}

/// Scores that depend on the last id only.
std::vector<int32_t> RunToy(const json& toy) {
  const auto table = toy.at("table").get<std::vector<std::vector<float>>>();
  const auto prompt = toy.at("prompt").get<std::vector<int32_t>>();
  const auto search = MakeSearch(OptionsOf(toy), prompt, static_cast<int64_t>(table.size()));
  std::vector<int32_t> last = {prompt.back()};
  std::vector<int32_t> settled;
  while (!last.empty()) {
    std::vector<float> scores;
    for (const int32_t id : last) scores.insert(scores.end(), table[id].begin(), table[id].end());
    const SearchStep step = search->Advance(scores);
    settled.insert(settled.end(), step.settled.begin(), step.settled.end());
    last.clear();
    for (const Continuation& next : step.next) last.push_back(next.id);
  }
  EXPECT_EQ(settled, search->Output().ids);
  return settled;
}

TEST(SearchGoldens, ToyModels) {
  const auto file = testing::GoldensFolder() / "generate.json";
  if (!std::filesystem::exists(file)) GTEST_SKIP() << "no goldens in " << file;
  const json toys = testing::ReadJson(file);
  ASSERT_GE(toys.size(), 150u);
  for (size_t i = 0; i < toys.size(); ++i) {
    EXPECT_EQ(RunToy(toys[i]), toys[i].at("output_ids").get<std::vector<int32_t>>()) << "toy " << i;
  }
}

/// What the processors saw before the first step: older goldens do not spell it out.
std::vector<int32_t> PenaltyIdsOf(const json& recorded) {
  if (recorded.contains("penalty_ids")) return recorded.at("penalty_ids");
  if (recorded.at("generate").at("use_cache").get<bool>()) return {1};
  return recorded.at("input_ids");
}

/// Feeds the recorded scores of a whole answer to the search.
std::vector<int32_t> Replay(const json& recorded, const FloatTensor& logits) {
  const auto search =
      MakeSearch(OptionsOf(recorded.at("generate")), PenaltyIdsOf(recorded), logits.last());
  const int64_t rows_per_step = logits.shape.size() == 3 ? logits.shape[1] : 1;
  const int64_t step_size = rows_per_step * logits.last();
  for (int64_t step = 0; step < logits.shape[0]; ++step) {
    const auto scores =
        std::span(logits.values).subspan(step * step_size, search->width() * logits.last());
    const bool last = search->Advance(scores).next.empty();
    EXPECT_EQ(last, step + 1 == logits.shape[0]) << "step " << step;
  }
  const SearchOutput output = search->Output();
  if (recorded.contains("sequences_score") && output.score) {
    EXPECT_NEAR(*output.score, recorded.at("sequences_score").get<double>(), 1e-5);
  }
  return output.ids;
}

TEST(SearchGoldens, RecordedScores) {
  int64_t greedy = 0;
  int64_t beams = 0;
  for (const auto& folder : testing::KindFolders()) {
    for (const json& recorded : testing::ReadJson(folder / "cases.json")) {
      if (recorded.value("call", "chat") != "chat") continue;
      const std::string name = recorded.at("name");
      SCOPED_TRACE(folder.filename().string() + " " + name);
      const GoldenTaps taps(folder / recorded.value("taps", "taps/" + name + ".safetensors"));
      if (taps.Has("logits_cols")) continue;  // only some columns were kept
      const FloatTensor logits = taps.Float("logits");
      EXPECT_EQ(Replay(recorded, logits), recorded.at("output_ids").get<std::vector<int32_t>>());
      ++(logits.shape.size() == 3 ? beams : greedy);
    }
  }
  if (greedy + beams == 0) GTEST_SKIP() << "no goldens in " << testing::GoldensFolder();
  EXPECT_GE(greedy, 30);
  EXPECT_GE(beams, 6);
}

/// `probs` are rounded to seven digits after the point.
void ExpectDistribution(const json& vector, const json& recorded, const FloatTensor& logits) {
  const int64_t step = vector.at("step");
  auto seen = PenaltyIdsOf(recorded);
  const auto ids = recorded.at("output_ids").get<std::vector<int32_t>>();
  seen.insert(seen.end(), ids.begin(), ids.begin() + step);
  SearchOptions options;
  options.do_sample = true;
  options.repetition_penalty = vector.at("repetition_penalty");
  options.temperature = vector.at("temperature");
  options.top_k = vector.at("top_k");
  options.top_p = vector.at("top_p");
  const auto row = logits.values.begin() + step * logits.last();
  std::vector<float> scores(row, row + logits.last());
  ProcessScores(options, seen, step, scores);
  const std::vector<Candidate> candidates = SamplingDistribution(options, scores);

  const auto expected_ids = vector.at("ids").get<std::vector<int32_t>>();
  const auto expected = vector.at("probs").get<std::vector<double>>();
  ASSERT_EQ(candidates.size(), expected_ids.size());
  for (size_t i = 0; i < candidates.size(); ++i) {
    EXPECT_EQ(candidates[i].id, expected_ids[i]) << "rank " << i;
    EXPECT_NEAR(candidates[i].probability, expected[i], 1.5e-7) << "rank " << i;
  }
}

TEST(SearchGoldens, SamplingDistributions) {
  int64_t vectors = 0;
  for (const auto& folder : testing::KindFolders()) {
    if (!std::filesystem::exists(folder / "sampling.json")) continue;
    std::map<std::string, json> cases;
    for (const json& recorded : testing::ReadJson(folder / "cases.json")) {
      cases[recorded.at("name")] = recorded;
    }
    for (const json& vector : testing::ReadJson(folder / "sampling.json")) {
      const json& recorded = cases.at(vector.at("case"));
      SCOPED_TRACE(folder.filename().string() + " " + vector.at("case").get<std::string>() +
                   " step " + vector.at("step").dump());
      const GoldenTaps taps(folder / recorded.at("taps").get<std::string>());
      ExpectDistribution(vector, recorded, taps.Float("logits"));
      ++vectors;
    }
  }
  if (vectors == 0) GTEST_SKIP() << "no goldens in " << testing::GoldensFolder();
  EXPECT_GE(vectors, 16);
}

}  // namespace
}  // namespace xcomposer
