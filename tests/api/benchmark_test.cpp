#include "xcomposer/benchmark.h"

#include <map>
#include <string>

#include "api/benchmark_cases.h"
#include "api/benchmark_limits.h"
#include "api/demo_model.h"
#include "checkpoint/scratch_directory.h"
#include "config/config_texts.h"
#include "gmock/gmock.h"
#include "kernels/cpu/cpu_info.h"
#include "measure/machine_limits.h"

namespace xcomposer::api {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing_support::ExpectError;
using testing_support::kDemo;

using Of = BenchmarkLimit::Of;

std::vector<BenchmarkLimit> Limits() {
  return {{"memory read", "", Of::kBytes, true, {50, 100}},
          {"fp32 fma", "", Of::kOperations, true, {1000}},
          {"int8 dot", "", Of::kOperations, true, {4000}}};
}

LimitShare Share(const std::string& limit, double percent) {
  return {limit, {.median = percent, .min = percent, .max = percent, .runs = 1}};
}

TEST(BenchmarkLimitTest, ASharesRateIsTheLastOne) {
  const std::vector<BenchmarkLimit> limits = Limits();
  EXPECT_DOUBLE_EQ(limits[0].PercentOf({.bytes = 30, .operations = 7}, 0.5), 60);
  EXPECT_DOUBLE_EQ(limits[1].PercentOf({.bytes = 30, .operations = 700}, 2), 35);
  EXPECT_EQ(limits[1].PercentOf({.bytes = 30, .operations = 700}, 0), 0);
}

TEST(BenchmarkLimitTest, WhatStaysInTheCacheIsNotReadFromMemory) {
  const std::vector<BenchmarkLimit> limits = Limits();
  EXPECT_THAT(ApplyingLimits(limits, {.bytes = 99, .operations = 1}, 100), ElementsAre(1, 2));
  EXPECT_THAT(ApplyingLimits(limits, {.bytes = 100, .operations = 1}, 100), ElementsAre(0, 1, 2));
  EXPECT_THAT(ApplyingLimits(limits, {.bytes = 99, .operations = 1}, 0), ElementsAre(0, 1, 2));
}

TEST(BenchmarkLimitTest, TheNearestLimitBinds) {
  const std::vector<BenchmarkLimit> limits = Limits();
  const auto bound = [&](const std::vector<LimitShare>& shares) {
    const auto share = BindingShare(shares, limits);
    return share ? share->limit : "";
  };
  EXPECT_EQ(bound({}), "");
  EXPECT_EQ(bound({Share("memory read", 80), Share("fp32 fma", 20)}), "memory read");
  EXPECT_EQ(bound({Share("memory read", 20), Share("fp32 fma", 80)}), "fp32 fma");
  // 120 % of the multiply-adds is no wonder where products are formed in 8 bits.
  EXPECT_EQ(bound({Share("memory read", 20), Share("fp32 fma", 120), Share("int8 dot", 30)}),
            "int8 dot");
  EXPECT_EQ(bound({Share("memory read", 40), Share("fp32 fma", 120), Share("int8 dot", 30)}),
            "memory read");
}

TEST(BenchmarkLimitTest, AllPartsOnProcessorsShareTheirLimits) {
  BenchmarkLimits limits({"cpu", "cpu:1"}, 1, {.int8 = true, .bf16 = true});
  limits.Refresh();
  limits.Refresh();  // a moment later: not measured again
  for (const MachineLimit& limit : limits.Report()) {
    EXPECT_TRUE(limit.measured);
    EXPECT_EQ(limit.rate.runs, 1) << limit.name;
    EXPECT_GT(limit.rate.median, 0) << limit.name;
  }
  const std::map<std::string, double measure::CpuRates::*> sources = {
      {"memory read", &measure::CpuRates::read},
      {"fp32 fma", &measure::CpuRates::fma},
      {"int8 dot", &measure::CpuRates::int8_dot},
      {"bf16 dot", &measure::CpuRates::bf16_dot}};
  for (const BenchmarkLimit& limit : limits.all()) {
    EXPECT_EQ(limit.source, sources.at(limit.name)) << limit.name;
  }
  EXPECT_EQ(limits.Report().back().name == "bf16 dot", cpu::HasBfloatProducts(cpu::BestIsa()));
  EXPECT_EQ(limits.Report()[0].unit, "B/s");
  EXPECT_EQ(limits.Report()[1].unit, "op/s");
  EXPECT_THAT(BenchmarkLimits({"cpu", "cuda:0"}, 1, {.int8 = true}).Report(), IsEmpty());
}

TEST(BenchmarkRequestTest, RunsDifferInIdsAndPixels) {
  const ModelConfig config = ParseConfig(ShippedConfig(Kind::kVl7b).dump());
  BenchmarkOptions options;
  options.prompt_tokens = {3000};
  options.image_width = 60;
  options.image_height = 40;
  const auto requests = BenchmarkRequests(options, config, {});
  ASSERT_EQ(requests.size(), 3u);
  const Request picture = requests[0].Make(config, 1);
  EXPECT_EQ(picture.token_ids->size(), 65u);  // 64 of text, and the place of the picture
  EXPECT_EQ((*picture.token_ids)[0], config.bos_id);
  EXPECT_EQ((*picture.token_ids)[1], kPictureId);
  const auto pixels = [&](int64_t run) {
    return std::get<ImagePixels>(requests[0].Make(config, run).images->front()).rgb;
  };
  EXPECT_EQ(pixels(1).size(), 60u * 40 * 3);
  EXPECT_EQ(pixels(1), pixels(1));
  EXPECT_NE(pixels(1), pixels(2));
  const Request text = requests[1].Make(config, 1);
  EXPECT_EQ(text.token_ids->size(), 3000u);
  EXPECT_NE(*text.token_ids, *requests[1].Make(config, 2).token_ids);
  for (const int32_t id : *text.token_ids) {
    EXPECT_GE(id, 0);
    EXPECT_LT(id, config.vocab_size);
  }
  EXPECT_TRUE(text.generation.eos_token_id->empty());
  EXPECT_EQ(text.generation.max_new_tokens, 1);
  EXPECT_EQ(requests[2].Make(config, 1).generation.max_new_tokens, options.new_tokens);
}

TEST(BenchmarkRequestTest, TiledKindsTakeAsManyTilesAsAskedFor) {
  const ModelConfig config = ParseConfig(ShippedConfig(Kind::k4khd7b).dump());
  BenchmarkOptions options;
  options.hd_num = 4;
  const BenchmarkRequest few = BenchmarkRequests(options, config, {}).front();
  options.hd_num = 9;
  const BenchmarkRequest many = BenchmarkRequests(options, config, {}).front();
  EXPECT_LT(few.cases[0].picture_rows, many.cases[0].picture_rows);
  EXPECT_LT(few.cases[0].work.operations, many.cases[0].work.operations);
  EXPECT_EQ(many.Make(config, 0).hd_num, 9);
}

TEST(BenchmarkRequestTest, EachFigureTakesItsOwnTime) {
  const Timings timings{
      .load_s = 1, .image_s = 2, .prefill_s = 3, .decode_s = 4, .tokens_per_s = 5};
  EXPECT_EQ((BenchmarkCase{.name = "", .phase = "vision"}.SecondsOf(timings)), 2);
  EXPECT_EQ((BenchmarkCase{.name = "", .phase = "prefill"}.SecondsOf(timings)), 3);
  EXPECT_EQ((BenchmarkCase{.name = "", .phase = "decode"}.SecondsOf(timings)), 4);
}

BenchmarkOptions Short() {
  BenchmarkOptions options;
  options.engine.model = kDemo;
  options.prompt_tokens = {3};
  options.contexts = {};
  options.picture = false;
  options.repeat = 1;
  return options;
}

TEST(BenchmarkTest, OptionsOutOfRangeAreRefused) {
  const auto refused = [](const std::string& part, auto change) {
    BenchmarkOptions options = Short();
    change(options);
    ExpectError(ErrorKind::kUsage, part, [&] { RunBenchmark(options); });
  };
  refused("number of runs", [](BenchmarkOptions& o) { o.repeat = 0; });
  refused("new tokens", [](BenchmarkOptions& o) { o.new_tokens = 1; });
  refused("prompt", [](BenchmarkOptions& o) { o.prompt_tokens = {5, 0}; });
  refused("context", [](BenchmarkOptions& o) { o.contexts = {-1}; });
  refused("image height", [](BenchmarkOptions& o) { o.image_width = 5; });
  refused("threads", [](BenchmarkOptions& o) { o.engine.threads = -1; });
}

TEST(BenchmarkTest, ProgressMayEndIt) {
  BenchmarkOptions options = Short();
  int64_t told = 0;
  options.progress = [&told](const BenchmarkProgress& progress) {
    EXPECT_EQ(progress.total, 2);  // a turn that does not count, and one that does
    if (++told == 2) throw Error(ErrorKind::kCancelled, "enough");
  };
  ExpectError(ErrorKind::kCancelled, "enough", [&] { RunBenchmark(options); });
  EXPECT_EQ(told, 2);
}

TEST(RandomModelTest, AnswersWithTheSizeOfAConfig) {
  nlohmann::json config = ShippedConfig(Kind::k2_7b);
  config["hidden_size"] = 256;
  config["intermediate_size"] = 384;
  config["num_hidden_layers"] = 2;
  config["num_attention_heads"] = 4;
  config["num_key_value_heads"] = 2;
  config["vocab_size"] = 512;
  const testing_support::ScratchDirectory scratch;
  const std::string path = scratch.Write("config.json", config.dump());

  EngineOptions options;
  options.model = path;
  options.random_weights = true;
  options.max_image_pixels = 100;
  int64_t last_done = 0;
  options.progress = [&last_done](const LoadProgress& progress) {
    EXPECT_GT(progress.bytes_done, last_done);
    EXPECT_LE(progress.bytes_done, progress.bytes_total);
    last_done = progress.bytes_done;
  };
  Engine engine = Engine::Load(options);
  EXPECT_FALSE(engine.info().has_tokenizer);
  EXPECT_EQ(engine.info().layers, 2);
  EXPECT_EQ(last_done, engine.info().weight_bytes);
  Request request;
  request.token_ids = {1, 2, 3};
  request.generation.max_new_tokens = 4;
  request.generation.do_sample = false;
  request.generation.eos_token_id = std::vector<int32_t>{};
  const std::vector<int32_t> ids = engine.Generate(request).output_ids;
  EXPECT_EQ(ids.size(), 4u);
  ExpectError(ErrorKind::kImage, "at most 100 pixels",
              [&] { engine.Submit(testing_support::IdRequest(1)); });
  options.devices = {"cpu", "cpu"};
  last_done = 0;
  EXPECT_EQ(Engine::Load(options).Generate(request).output_ids, ids);

  options.ranks.rank = 1;
  options.ranks.world_size = 2;
  options.ranks.rendezvous = "127.0.0.1:1";
  ExpectError(ErrorKind::kUsage, "one process", [&] { Engine::Load(options); });
}

TEST(RandomModelTest, QuantisedTwiceIsRefused) {
  nlohmann::json config = ShippedConfig(Kind::kVl7b);
  config["quantization_config"] = {
      {"quant_method", "gptq"}, {"bits", 4}, {"group_size", 128}, {"desc_act", false}};
  const testing_support::ScratchDirectory scratch;
  const std::string path = scratch.Write("config.json", config.dump());
  EngineOptions options;
  options.model = path;
  options.random_weights = true;
  for (const WeightPrecision weights : {WeightPrecision::kInt8, WeightPrecision::kBf12}) {
    options.weights = weights;
    ExpectError(ErrorKind::kUsage, "quantised already", [&] { Engine::Load(options); });
  }
}

}  // namespace
}  // namespace xcomposer::api
