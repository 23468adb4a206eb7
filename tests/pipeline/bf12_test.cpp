// Weights in 12 bits a number: a model gives what it gives with them as they are stored.
#include <ATen/Functions.h>

#include <memory>

#include "checkpoint/checkpoint.h"
#include "config/weight_names.h"
#include "forked_run.h"
#include "gmock/gmock.h"
#include "packed_model.h"
#include "pipeline/checkpoint_weights.h"
#include "pipeline/pipeline.h"
#include "pipeline/random_pipeline.h"
#include "placement/weight_type.h"
#include "rank_threads.h"
#include "xcomposer/error.h"

namespace xcomposer {
namespace {

using testing::AllOf;
using testing::HasSubstr;

PipelineOptions Options(bool pack_bf12) {
  PipelineOptions options;
  options.kv = kForkedPool;
  options.max_batch_rows = 200;
  options.pack_bf12 = pack_bf12;
  return options;
}

/// Scores of prompts with and without a picture and of the rows after them.
std::vector<float> Scores(WeightSource& weights, const ModelConfig& config,
                          const PipelineOptions& options, size_t stages = 1) {
  Pipeline pipeline(weights, config, EvenDeviceMap(config, std::vector<std::string>(stages, "cpu")),
                    options);
  return RunForked(pipeline, config);
}

std::unique_ptr<CheckpointWeights> WeightsOf(const std::filesystem::path& folder,
                                             WeightStorage storage = WeightStorage::kAsStored) {
  return std::make_unique<CheckpointWeights>(Checkpoint::Open(folder), Quantization{},
                                             Quantization{}, storage, nullptr);
}

TEST(Bf12Loading, ScoresAreThoseOfTheWeightsAsStored) {
  for (const Kind kind : {Kind::kVl7b, Kind::k25_7b}) {
    const ModelConfig config = BlockModel(kind);
    Folder folder("bf12");
    WriteRandom(config, folder.path());
    const auto stored = WeightsOf(folder.path());
    const std::vector<float> expected = Scores(*stored, config, Options(false));
    for (const size_t stages : {size_t{1}, size_t{2}}) {
      const auto packed = WeightsOf(folder.path());
      EXPECT_EQ(Scores(*packed, config, Options(true), stages), expected);
      // w2 has 136 inputs.
      EXPECT_EQ(packed->bf12_counts().packed, 4 * config.layers + 1);
      EXPECT_EQ(packed->bf12_counts().kept, config.layers);
      EXPECT_LT(packed->bytes(), stored->bytes());
    }
    EXPECT_EQ(stored->bf12_counts().packed, 0);
  }
}

TEST(Bf12Loading, TakesTheBytesThatThePlanCounts) {
  const ModelConfig config = BlockModel();
  Folder folder("bf12_bytes");
  WriteRandom(config, folder.path());
  int64_t least = 0;
  int64_t planned = 0;
  for (const WeightSpec& spec : WeightTable(config)) {
    least += WeightBytes(spec, WeightType::kBf12);
    planned += WeightBytes(spec, WeightType::kBf12) + Bf12Reserve(spec, WeightType::kBf12);
  }
  const auto weights = WeightsOf(folder.path());
  Scores(*weights, config, Options(true));
  EXPECT_GE(weights->bytes(), least);
  EXPECT_LE(weights->bytes(), planned);
  EXPECT_LT(planned - least, least / 100);
}

TEST(Bf12Loading, MatricesThatDoNotFitStayAsTheyAre) {
  ModelConfig config = BlockModel();
  config.vocab_size = 211;
  Folder folder("bf12_wild");
  // Sizes from 2^-100 to 2^20 in one matrix: more outliers than there may be.
  WriteRandom(config, folder.path(), [](const std::string& name, at::Tensor tensor) {
    if (name != "model.layers.1.feed_forward.w1.weight") return tensor;
    const at::Tensor exponents = at::arange(tensor.numel()).remainder(121).sub(100).to(at::kFloat);
    return at::pow(2.0, exponents).view(tensor.sizes()).to(at::kBFloat16);
  });
  const auto packed = WeightsOf(folder.path());
  const auto stored = WeightsOf(folder.path());
  EXPECT_EQ(Scores(*packed, config, Options(true)), Scores(*stored, config, Options(false)));
  EXPECT_EQ(packed->bf12_counts().packed, 4 * config.layers - 1);
  EXPECT_EQ(packed->bf12_counts().kept, config.layers + 2);
}

void ExpectUsage(const std::function<void()>& body, const testing::Matcher<std::string>& what) {
  try {
    body();
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUsage);
    EXPECT_THAT(std::string(error.what()), what);
  }
}

TEST(Bf12Loading, OtherTypesAreRefusedUnlessTheyAreRounded) {
  const ModelConfig config = BlockModel();
  for (const auto& [type, name] : {std::pair{at::kHalf, "float16"}, {at::kFloat, "float32"}}) {
    Folder folder("bf12_types");
    WriteRandom(config, folder.path(), [type = type](const std::string&, at::Tensor tensor) {
      return tensor.to(type).mul_(1.001);
    });
    ExpectUsage([&] { Scores(*WeightsOf(folder.path()), config, Options(true)); },
                AllOf(HasSubstr(std::string("model.layers.0.attention.wqkv is ") + name),
                      HasSubstr("packs bfloat16 only"), HasSubstr("--dtype bf16")));
    const auto rounded = [&] { return WeightsOf(folder.path(), WeightStorage::kBFloat16); };
    EXPECT_EQ(Scores(*rounded(), config, Options(true)),
              Scores(*rounded(), config, Options(false)));
    ExpectUsage(
        [&] { Scores(*WeightsOf(folder.path(), WeightStorage::kFloat16), config, Options(true)); },
        HasSubstr("is float16"));
  }
}

TEST(Bf12Loading, QuantisedWeightsAreRefused) {
  for (const Quantization& stored : {kInt8, Quantization{Quantization::Method::kGptq, 4, 32},
                                     Quantization{Quantization::Method::kAwq, 4, 32}}) {
    const ModelConfig config = PanelModel(Kind::kVl7b, stored);
    RandomWeights weights(3, stored);
    ExpectUsage([&] { Scores(weights, config, Options(true)); },
                AllOf(HasSubstr("quantised already (" + ToString(stored)),
                      HasSubstr("Leave --weights out")));
  }
}

TEST(Bf12Loading, DrawnWeightsAreTheSameNumbers) {
  const ModelConfig config = BlockModel();
  const DeviceMap map = EvenDeviceMap(config, {"cpu"});
  const auto scores = [&](bool pack_bf12) {
    return RunForked(*DrawPipeline(config, map, Options(pack_bf12)), config);
  };
  EXPECT_EQ(scores(true), scores(false));
}

TEST(Bf12Loading, RanksGiveTheSameBits) {
  const ModelConfig config = BlockModel();
  const auto weights = [] { return std::make_unique<RandomWeights>(7); };
  RandomWeights stored(7);
  const std::vector<float> expected = Scores(stored, config, Options(false));
  RankThreads run(weights, config, EvenDeviceMap(config, {"cpu", "cpu"}), Options(true), {0, 1});
  EXPECT_EQ(RunForked(run.pipeline(), config), expected);
  for (const std::string& failure : run.Join()) EXPECT_EQ(failure, "");
}

}  // namespace
}  // namespace xcomposer
