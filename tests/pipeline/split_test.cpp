#include <cstdlib>
#include <map>
#include <string>

#include "checkpoint/checkpoint.h"
#include "golden_case.h"
#include "golden_run.h"
#include "gtest/gtest.h"
#include "model/random_weights.h"
#include "rank_threads.h"
#include "tiny_model.h"

/// The same batches give the same bits however the layers are split over stages and ranks.
namespace xcomposer {
namespace {

namespace fs = std::filesystem;

const fs::path kGoldens = fs::path(XCOMPOSER_SHARED_DIR) / "data/goldens";

/// Every way to cut `layers` layers into `stages` contiguous pieces, empty ones included.
std::vector<DeviceMap> Splits(int64_t layers, int stages) {
  std::vector<DeviceMap> splits = {{}};
  for (int stage = 0; stage < stages; ++stage) {
    std::vector<DeviceMap> longer;
    for (const DeviceMap& split : splits) {
      const int64_t first = split.stages.empty() ? 0 : split.stages.back().end_layer;
      for (int64_t end = stage + 1 == stages ? layers : first; end <= layers; ++end) {
        longer.push_back(split);
        longer.back().stages.push_back({"cpu", first, end});
      }
    }
    splits = std::move(longer);
  }
  return splits;
}

std::string Name(const DeviceMap& map) {
  std::string name;
  for (const StagePlace& stage : map.stages) name += std::to_string(stage.end_layer) + " ";
  return name;
}

/// One after the other, all on one rank, or two at a time on neighbouring ranks.
std::vector<std::vector<int>> Layouts(int stages) {
  std::vector<std::vector<int>> layouts = {std::vector<int>(static_cast<size_t>(stages), 0)};
  if (stages == 1) return layouts;
  layouts.emplace_back();
  for (int stage = 0; stage < stages; ++stage) layouts.back().push_back(stage);
  if (stages > 2) {
    layouts.emplace_back();
    for (int stage = 0; stage < stages; ++stage) layouts.back().push_back(stage / 2);
  }
  return layouts;
}

bool Full() { return std::getenv("XCOMPOSER_FULL_TESTS") != nullptr; }

/// A ragged sequence of batches: two prompts with a picture and one without, chunks of different
/// lengths, answers between them, a block copied.
std::vector<std::vector<float>> RunRagged(Executor& executor, const ModelConfig& config,
                                          size_t in_flight) {
  const EncodedPicture picture = executor.Encode(TinyPicture(config), "image0", {}, {});
  const auto blocks = [](int32_t first) {
    std::vector<int32_t> table;
    for (int32_t i = 0; i < 16; ++i) table.push_back(first + (i * 7) % 16);
    return table;
  };
  TinySequence a = MakeSequence(picture.rows + 9, picture, blocks(0));
  const TinySequence b = MakeSequence(11, {}, blocks(16));
  TinySequence c = MakeSequence(picture.rows + 4, picture, blocks(32));
  if (config.adapters.web > 0) a.adapter = Adapter::kWeb;
  std::vector<Batch> batches(6);
  AddSlice(batches[0], a, 0, 7, config);
  AddSlice(batches[0], b, 0, 3, config);
  AddSlice(batches[1], a, 7, picture.rows + 5, config);
  AddSlice(batches[1], b, 3, 10, config);
  AddSlice(batches[1], c, 0, 5, config);
  AddSlice(batches[2], c, 5, picture.rows + 3, config);
  AddSlice(batches[3], a, picture.rows + 5, picture.rows + 9, config);
  AddSlice(batches[3], b, 10, 11, config);
  batches[4].copies = {{c.blocks[0], 60}};
  c.blocks[0] = 60;
  AddSlice(batches[4], c, picture.rows + 3, picture.rows + 4, config);
  AddSlice(batches[5], b, 5, 9, config);
  batches[5].all_logits = true;
  std::vector<std::vector<float>> scores;
  for (size_t i = 0; i < batches.size(); ++i) {
    if (i >= in_flight) scores.push_back(executor.Collect().values);
    executor.Submit(std::move(batches[i]));
  }
  while (scores.size() < batches.size()) scores.push_back(executor.Collect().values);
  executor.Release(picture.feature);
  return scores;
}

class SplitOfEveryKind : public testing::TestWithParam<Kind> {};

INSTANTIATE_TEST_SUITE_P(, SplitOfEveryKind, testing::ValuesIn(kAllKinds), [](const auto& info) {
  std::string name = ToString(info.param);
  for (char& c : name) c = std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
  return name;
});

TEST_P(SplitOfEveryKind, RaggedBatchesInFlightOverStagesAndRanksGiveTheSameBits) {
  const ModelConfig config = TinyModel(GetParam());
  PipelineOptions options;
  options.kv = {.blocks = 64, .block_size = 4};
  options.max_batch_rows = 200;
  const auto weights = [] { return std::make_unique<RandomWeights>(7); };
  std::vector<std::vector<float>> expected;
  int runs = 0;
  for (int stages = 1; stages <= 4; ++stages) {
    const std::vector<DeviceMap> splits = Splits(config.layers, stages);
    for (size_t i = 0; i < splits.size(); ++i) {
      if (!Full() && i % 3 != static_cast<size_t>(stages) % 3 && stages > 1) continue;
      for (const std::vector<int>& layout : Layouts(stages)) {
        RankThreads ranks(weights, config, splits[i], options, layout);
        const auto scores = RunRagged(ranks.pipeline(), config, static_cast<size_t>(stages));
        if (expected.empty()) expected = scores;
        EXPECT_EQ(scores, expected) << Name(splits[i]) << "over " << layout.back() + 1 << " ranks";
        for (const std::string& failure : ranks.Join()) {
          EXPECT_EQ(failure, "");
        }
        ++runs;
      }
    }
  }
  EXPECT_GT(runs, 10);
  ASSERT_EQ(expected.back().size(), 4u * 211u);
}

struct CaseName {
  std::string kind;
  std::string name;
};

/// One case of each kind by default, the one with the most pictures; all in a full run.
std::vector<CaseName> Cases() {
  std::vector<CaseName> cases;
  for (const fs::path& folder : GoldenFolders(kGoldens)) {
    CaseName richest;
    size_t most = 0;
    for (const std::string& name : GoldenCaseNames(folder)) {
      const GoldenCase golden = LoadGoldenCase(folder, name);
      if (!golden.fresh_rope) continue;
      if (Full()) cases.push_back({folder.filename().string(), name});
      if (richest.name.empty() || golden.images.size() > most) {
        richest = {folder.filename().string(), name};
        most = golden.images.size();
      }
    }
    if (!Full()) cases.push_back(richest);
  }
  if (cases.empty()) cases.push_back({"no", "goldens"});
  return cases;
}

class SplitGolden : public testing::TestWithParam<CaseName> {};

TEST_P(SplitGolden, GivesTheSameBits) {
  if (GetParam().kind == "no") GTEST_SKIP() << "no goldens in " << kGoldens;
  const GoldenCase golden = LoadGoldenCase(kGoldens / GetParam().kind, GetParam().name);
  const Checkpoint checkpoint = Checkpoint::Open(golden.folder / "model");
  const ModelConfig config = LoadConfig(golden.folder / "model", HeadersOf(checkpoint));
  PipelineOptions options;
  options.kv = {.blocks = 400, .block_size = 16};
  const auto weights = [&] {
    return std::make_unique<CheckpointWeights>(checkpoint, config.quantization, Quantization{},
                                               WeightStorage::kAsStored,
                                               std::function<void(const LoadStep&)>());
  };
  std::optional<GoldenRun> expected;
  for (int stages = 1; stages <= 4; ++stages) {
    const std::vector<DeviceMap> splits = Splits(config.layers, stages);
    const std::vector<std::vector<int>> layouts = Layouts(stages);
    for (size_t i = 0; i < splits.size(); ++i) {
      for (size_t j = 0; j < layouts.size(); ++j) {
        // By default one stage, and three over two ranks; the ragged batches above see the others.
        const bool chosen = stages % 2 == 1 && i == splits.size() / 2 && j + 1 == layouts.size();
        if (!Full() && !chosen) continue;
        RankThreads ranks(weights, config, splits[i], options, layouts[j]);
        const GoldenRun run = RunGolden(ranks.pipeline(), golden, config);
        if (!expected) expected = run;
        EXPECT_EQ(run.logits, expected->logits) << Name(splits[i]);
        EXPECT_EQ(run.ids, expected->ids) << Name(splits[i]);
        ASSERT_EQ(run.taps.size(), expected->taps.size()) << Name(splits[i]);
        for (const auto& [name, tensor] : expected->taps) {
          EXPECT_EQ(run.taps.at(name).values, tensor.values) << name << ", " << Name(splits[i]);
        }
        for (const std::string& failure : ranks.Join()) {
          EXPECT_EQ(failure, "");
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(, SplitGolden, testing::ValuesIn(Cases()), [](const auto& info) {
  std::string name = info.param.kind + "_" + info.param.name;
  for (char& c : name) {
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  }
  return name;
});

TEST(Split, ARankThatCannotLoadTellsAllWhy) {
  const ModelConfig config = TinyModel(Kind::kVl7b);
  class NoLayerTwo final : public WeightSource {
    at::Tensor Load(const std::string& name, at::IntArrayRef shape) override {
      if (name.find("layers.2") != std::string::npos) throw std::bad_alloc();
      return RandomWeights(7).Take(name, shape);
    }
  };
  const auto weights = [] { return std::make_unique<NoLayerTwo>(); };
  try {
    RankThreads ranks(weights, config, EvenDeviceMap(config, {"cpu", "cpu", "cpu"}), {}, {0, 1, 2});
    FAIL() << "it loaded";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kCapacity);
    EXPECT_EQ(error.where().at("rank"), "2");
  }
}

TEST(Ranks, RefuseBatchesWhoseScoresCannotTravel) {
  const ModelConfig config = TinyModel(Kind::kVl7b);
  const int64_t most = (int64_t{1} << 31) / (4 * config.vocab_size);
  const auto start = [&](int64_t rows) {
    PipelineOptions options;
    options.kv = {.blocks = 8, .block_size = 4};
    options.max_batch_rows = rows;
    DeviceMap map{{{"cpu", 0, 1}, {"cpu", 1, config.layers}}};
    RankThreads ranks([&] { return std::make_unique<RandomWeights>(1); }, config, map, options,
                      {0, 1});
  };
  EXPECT_NO_THROW(start(most));
  try {
    start(most + 1);
    ADD_FAILURE() << "was accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUsage);
    EXPECT_NE(std::string(error.what()).find(std::to_string(most)), std::string::npos);
  }
}

}  // namespace
}  // namespace xcomposer
