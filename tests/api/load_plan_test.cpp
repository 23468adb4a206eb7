#include "api/load_plan.h"

#include <filesystem>

#include "api/load_options.h"
#include "api/picture_budget.h"
#include "api/picture_plan.h"
#include "checkpoint/scratch_directory.h"
#include "config/config_texts.h"
#include "gmock/gmock.h"
#include "placement/memory_formula.h"
#include "xcomposer/error.h"
#include "xcomposer/plan.h"

namespace xcomposer::api {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

ModelConfig Shipped(Kind kind) { return ParseConfig(ShippedConfig(kind).dump()); }

/// The config.json of a member of the family that fits into any machine.
nlohmann::json SmallJson(Kind kind) {
  nlohmann::json json = ShippedConfig(kind);
  json["hidden_size"] = 128;
  json["intermediate_size"] = 256;
  json["num_hidden_layers"] = 4;
  json["num_attention_heads"] = 2;
  json["num_key_value_heads"] = 1;
  json["vocab_size"] = 512;
  return json;
}

ModelConfig Small(Kind kind) { return ParseConfig(SmallJson(kind).dump()); }

template <typename Call>
Error ErrorOf(Call call) {
  try {
    call();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "nothing was thrown";
  return Error(ErrorKind::kInternal, "");
}

TEST(LoadPlan, HoldsSeveralSequencesWhereMemoryAllows) {
  EngineOptions options;
  options.devices = {"cpu"};
  const ModelConfig config = Small(Kind::k2_7b);
  const LoadPlan load = PlanLoad(options, config, {});
  EXPECT_EQ(load.kv_positions, 4 * (config.max_length + 1024));
  EXPECT_THAT(load.map.stages, ElementsAre(StagePlace{"cpu", 0, 4}));
  ASSERT_TRUE(load.pictures.has_value());
  EXPECT_GT(load.pictures->room, 0);
  const PlanBytes& planned = load.planned[0];
  EXPECT_EQ(load.pictures->room, load.budgets.at(0) - (planned.total() - planned.vision));
  EXPECT_EQ(load.feature_rows, 16384);
}

TEST(LoadPlan, TheObjectiveIsThePlanners) {
  EngineOptions options;
  options.devices = {"cpu", "cpu"};
  options.kv_tokens = 4096;
  const ModelConfig config = Small(Kind::k25_7b);
  const auto layers_first = [&](const char* objective) {
    options.objective = objective;
    return PlanLoad(options, config, {}).map.stages.at(0).end_layer;
  };
  // The slowest stage decides, or only the sum, which is the same wherever the cut is: then the
  // one that leaves the fuller stage the most room.
  EXPECT_EQ(layers_first(""), layers_first("throughput"));
  EXPECT_NE(layers_first("latency"), layers_first("throughput"));
  EXPECT_EQ(layers_first("request"), layers_first("latency"));
  const Error error = ErrorOf([&] { layers_first("fast"); });
  EXPECT_EQ(error.kind(), ErrorKind::kUsage);
  EXPECT_THAT(error.what(), AllOf(HasSubstr("'fast'"), HasSubstr("throughput, latency, request")));
}

TEST(LoadPlan, WhatIsNotQuantisedKeepsItsType) {
  const ModelConfig config = ParseConfig(ShippedConfig(Kind::k25_7b).dump());
  EngineOptions options;
  options.weights = WeightPrecision::kInt8;
  options.kv_tokens = 64;
  const auto planned = [&](WeightType stored) {
    return PlanLoad(options, config, {.type = stored}).planned[0].weights;
  };
  int64_t unquantised = 0;  // bytes with 16 bits
  for (const WeightSpec& spec : WeightTable(config)) {
    const int64_t bytes = WeightBytes(spec, WeightType::kInt8, WeightType::kFloat32);
    unquantised += bytes - WeightBytes(spec, WeightType::kInt8, WeightType::kBFloat16);
  }
  EXPECT_GT(unquantised, int64_t{5} << 30);
  EXPECT_EQ(planned(WeightType::kFloat32), planned(WeightType::kBFloat16) + unquantised);
  options.dtype = StorageType::kBFloat16;
  EXPECT_EQ(planned(WeightType::kFloat32), planned(WeightType::kBFloat16));
}

// What is in 12 bits is bfloat16, whatever the rest is: words count as the numbers that they hold.
TEST(StoredWeights, LinearsIn12BitsAreBfloat16) {
  const std::string text = ShippedConfig(Kind::kVl7b).dump();
  WeightHeaders headers = HeadersOf(ParseConfig(text));
  for (const WeightSpec& spec : WeightTable(ParseConfig(text))) {
    if (!spec.linear) {
      headers[spec.name].dtype = "F32";
      continue;
    }
    headers.erase(spec.name);
    const Bf12Names names = Bf12NamesOf(spec.name);
    headers[names.words] = {"I32", {spec.shape[0] / 4, spec.shape[1] / 128, 192}};
    headers[names.scales] = {"F32", {spec.shape[0]}};
    headers[names.outliers] = {"I32", {spec.shape[0] / 4 + 1}};
  }
  const StoredWeights stored = StoredWeightsOf(headers, ParseConfig(text, headers));
  EXPECT_EQ(stored.type, WeightType::kBFloat16);
  EXPECT_EQ(stored.linears, WeightType::kBFloat16);
  EXPECT_TRUE(stored.bf12);
  EngineOptions options;
  EXPECT_EQ(LoadedType(options, stored, true), WeightType::kBf12);
  EXPECT_EQ(LoadedType(options, stored, false), WeightType::kBFloat16);
  options.dtype = StorageType::kBFloat16;
  EXPECT_EQ(LoadedType(options, stored, true), WeightType::kBf12) << "no number changes";
  options.dtype = StorageType::kFloat32;
  EXPECT_EQ(LoadedType(options, stored, true), WeightType::kFloat32);
  EXPECT_EQ(LinearType(options, stored), WeightType::kFloat32);
  options.weights = WeightPrecision::kInt8;
  EXPECT_EQ(LoadedType(options, stored, true), WeightType::kInt8);

  // Only what can be packed decides on that.
  headers = HeadersOf(ParseConfig(text));
  for (const WeightSpec& spec : WeightTable(ParseConfig(text))) {
    headers[spec.name].dtype = spec.linear ? "F16" : "BF16";
  }
  const StoredWeights half = StoredWeightsOf(headers, ParseConfig(text, headers));
  EXPECT_EQ(half.linears, WeightType::kFloat16);
  EXPECT_FALSE(half.bf12);
}

TEST(LoadPlan, EveryNamedDeviceGetsAStage) {
  EngineOptions options;
  const ModelConfig config = Small(Kind::kVl7b);
  for (size_t count = 1; count <= 7; ++count) {
    options.devices.assign(count, "cpu");
    const DeviceMap map = PlanLoad(options, config, {}).map;
    EXPECT_EQ(map.stages.size(), count);
    for (const StagePlace& stage : map.stages) EXPECT_EQ(stage.device, "cpu");
    EXPECT_NO_THROW(CheckDeviceMap(map, config));
  }
}

TEST(LoadPlan, StagesOfARunUseNoMoreThanTheyWereGivenOrTheMachineHas) {
  EngineOptions options;
  options.devices = {"cpu", "cpu"};
  const ModelConfig config = Small(Kind::k2_7b);
  const LoadPlan alone = PlanLoad(options, config, {});
  const int64_t small = alone.planned[0].total();
  const int64_t big = int64_t{1} << 60;
  const LoadPlan load = PlanLoad(options, config, {}, StagesHere{alone.map, 0, 2, {small, big}});
  ASSERT_EQ(load.budgets.size(), 2u);
  EXPECT_EQ(load.budgets[0], small);
  EXPECT_LE(load.planned[0].total(), small);
  EXPECT_LT(load.budgets[1], big);
}

TEST(LoadPlan, IsWhatPlanShowsForFourSequences) {
  const nlohmann::json json = SmallJson(Kind::kVl7b);
  const testing_support::ScratchDirectory scratch;
  const std::filesystem::path file = scratch.Write("config.json", json.dump());
  EngineOptions options;
  options.devices = {"cpu", "cpu", "cpu"};
  const LoadPlan load = PlanLoad(options, ParseConfig(json.dump()), {});
  PlanOptions asked;
  asked.model = file.string();
  asked.devices = options.devices;
  asked.sequences = 4;
  asked.weights = {"bf16"};
  const Plan plan = MakePlan(asked);
  ASSERT_EQ(plan.devices.size(), load.map.stages.size());
  for (size_t i = 0; i < plan.devices.size(); ++i) {
    EXPECT_EQ(plan.devices[i].first_layer, load.map.stages[i].first_layer);
    EXPECT_EQ(plan.devices[i].last_layer + 1, load.map.stages[i].end_layer);
    EXPECT_EQ(plan.devices[i].bytes.total(), load.planned[i].total());
  }
}

TEST(LoadPlan, WhatCannotFitIsRefusedWithNumbers) {
  EngineOptions options;
  options.devices = {"cpu"};
  nlohmann::json json = ShippedConfig(Kind::kVl7b);
  json["num_hidden_layers"] = 4000;  // a petabyte's quarter of a percent: no machine of ours
  const ModelConfig config = ParseConfig(json.dump());
  const Error error = ErrorOf([&] { PlanLoad(options, config, {.type = WeightType::kFloat32}); });
  EXPECT_EQ(error.kind(), ErrorKind::kCapacity);
  EXPECT_THAT(error.what(), AllOf(HasSubstr("weights"), HasSubstr("KV cache"), HasSubstr("short")));
  EXPECT_GT(std::stoll(error.where().at("needed")), std::stoll(error.where().at("available")));
  // Who sets the number of positions takes the risk.
  options.kv_tokens = 64;
  const LoadPlan forced = PlanLoad(options, config, {.type = WeightType::kFloat32});
  EXPECT_EQ(forced.kv_positions, 64);
  EXPECT_FALSE(forced.pictures.has_value());
}

TEST(LoadPlan, KeysAndValuesInInt8LeaveRoomForMorePositions) {
  nlohmann::json json = ShippedConfig(Kind::kVl7b);
  json["num_hidden_layers"] = 2;
  ModelConfig config = ParseConfig(json.dump());
  config.max_length = int64_t{1} << 28;  // more than any machine of ours can hold
  EngineOptions options;
  options.devices = {"cpu"};
  const LoadPlan plain = PlanLoad(options, config, {});
  options.kv_precision = KvPrecision::kInt8;
  const LoadPlan int8 = PlanLoad(options, config, {});
  ASSERT_LT(plain.kv_positions, config.max_length);
  // 512 bytes of a head become 136; the free memory may have changed in between.
  EXPECT_GT(int8.kv_positions, 3 * plain.kv_positions);
  options.kv_tokens = 64;
  EXPECT_EQ(PlanLoad(options, config, {}).planned[0].kv, 2 * 64 * (2 * 8 * 136));
}

TEST(LoadPlan, DevicesThatAreNotThereAreRefused) {
  EngineOptions options;
  const ModelConfig config = Small(Kind::kVl7b);
  const auto kind_of = [&](std::vector<std::string> devices) {
    options.devices = std::move(devices);
    return ErrorOf([&] { PlanLoad(options, config, {}); }).kind();
  };
  EXPECT_EQ(kind_of({"cuda:99"}), ErrorKind::kDevice);
  EXPECT_EQ(kind_of({"gpu"}), ErrorKind::kDevice);
  EXPECT_EQ(kind_of({}), ErrorKind::kPlan);
}

TEST(LoadPlan, WhatCannotBeQuantisedIsRefused) {
  ModelConfig config = Shipped(Kind::kVl7b);
  EXPECT_NO_THROW(CheckQuantisable(config));
  config.intermediate_size += 8;
  EXPECT_EQ(ErrorOf([&] { CheckQuantisable(config); }).kind(), ErrorKind::kCheckpoint);
  config = Shipped(Kind::kVl7b);
  config.quantization = kInt4;
  EXPECT_EQ(ErrorOf([&] { CheckQuantisable(config); }).kind(), ErrorKind::kUsage);
}

TEST(LoadOptions, ThePipelineHasAsManyThreadsAsWereAskedFor) {
  EngineOptions options;
  options.threads = 3;
  EXPECT_EQ(PipelineOptionsFor(options, Small(Kind::kVl7b), 64).threads, 3);
}

TEST(PictureBudget, CountsFeaturesOfAllAndThePeakOfTheLargest) {
  const ModelConfig config = Shipped(Kind::k25_7b);
  PictureBudget budget;
  budget.config = config;
  budget.traits = CpuTraits();
  const PictureShape large = {1120, 560, 1, 2, 3 * 400 + 1 + 2 * 20};
  const PictureShape small = {560, 560, 1, 1, 2 * 400 + 1 + 2 * 20};
  const std::vector<PictureShape> two = {large, small};
  const int64_t own = FeatureBytes(config, large) + FeatureBytes(config, small);
  const auto peak_of = [&](const PictureShape& shape) {
    return PictureActivations(config, shape, budget.traits) - FeatureBytes(config, shape);
  };
  const int64_t peak = peak_of(large);
  ASSERT_GT(peak, peak_of(small));
  budget.room = own + peak;
  EXPECT_NO_THROW(RequirePicturesFit(budget, two));
  --budget.room;
  const Error error = ErrorOf([&] { RequirePicturesFit(budget, two); });
  EXPECT_EQ(error.kind(), ErrorKind::kCapacity);
  EXPECT_EQ(error.where().at("needed"), std::to_string(own + peak));
  // While a picture is encoded no layer runs.
  budget.layer_activations = 1;
  EXPECT_NO_THROW(RequirePicturesFit(budget, two));
}

TEST(PicturePlan, TakesTheSizeWithTheMostRows) {
  const ModelConfig khd = Shipped(Kind::k4khd7b);
  EXPECT_EQ(ShapeOf(khd, {.hd_num = 55}).rows, 8737);  // 55 x 1 tiles, an upright strip
  EXPECT_EQ(ShapeOf(khd, {.width = 640, .height = 480, .hd_num = 25}).rows, 3085);
  const ModelConfig k25 = Shipped(Kind::k25_7b);
  EXPECT_EQ(ShapeOf(k25, {.width = 3840, .height = 2160, .hd_num = 24}).rows, 10101);
  // Several pictures have six tiles at most, whatever was asked for.
  EXPECT_EQ(ShapeOf(k25, {.images = 2, .hd_num = 24}).rows,
            ShapeOf(k25, {.images = 1, .hd_num = 6}).rows);
  EXPECT_EQ(ShapeOf(Shipped(Kind::kVl7b), {.width = 9, .height = 9}).rows, 1225);
}

}  // namespace
}  // namespace xcomposer::api
