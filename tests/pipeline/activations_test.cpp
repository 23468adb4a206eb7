// Activations in bfloat16: what the engine computes with them, over stages and ranks.
#include "ops/activations.h"

#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "forked_run.h"
#include "kernels/cpu/cpu_info.h"
#include "model/random_weights.h"
#include "pipeline/pipeline.h"
#include "pipeline/stage_device.h"
#include "rank_threads.h"
#include "tiny_model.h"
#include "xcomposer/error.h"

namespace xcomposer {
namespace {

PipelineOptions Options(cpu::Activations activations) {
  PipelineOptions options;
  options.kv = kForkedPool;
  options.max_batch_rows = 200;
  options.activations = activations;
  return options;
}

std::vector<float> Scores(Kind kind, const PipelineOptions& options, const std::vector<int>& ranks,
                          at::ScalarType type = at::kBFloat16) {
  const ModelConfig config = TinyModel(kind);
  const auto weights = [&] { return std::make_unique<RandomWeights>(7, Quantization{}, type); };
  const DeviceMap map = EvenDeviceMap(config, std::vector<std::string>(ranks.size(), "cpu"));
  RankThreads run(weights, config, map, options, ranks);
  std::vector<float> scores = RunForked(run.pipeline(), config);
  for (const std::string& failure : run.Join()) EXPECT_EQ(failure, "");
  return scores;
}

/// Root mean square of the difference, as a share of that of `b`.
double Distance(const std::vector<float>& a, const std::vector<float>& b) {
  double difference = 0;
  double size = 0;
  EXPECT_EQ(a.size(), b.size());
  for (size_t i = 0; i < b.size(); ++i) {
    difference += std::pow(a[i] - b[i], 2);
    size += std::pow(b[i], 2);
  }
  return std::sqrt(difference / size);
}

// Each of some twenty rounded products on the way moves the scores by up to 2^-8 of their size; in
// a random model the moves add up like the steps of a walk.
TEST(Activations, RoundedOnesMoveScoresALittleWhereTheProcessorHasTheProducts) {
  for (const Kind kind : {Kind::kVl7b, Kind::k4khd7b, Kind::k25_7b}) {
    const std::vector<float> exact = Scores(kind, Options(cpu::Activations::kFloat32), {0});
    const std::vector<float> rounded = Scores(kind, Options(cpu::Activations::kBfloat16), {0});
    if (!cpu::HasBfloatProducts(cpu::BestIsa())) {
      EXPECT_EQ(rounded, exact);
      continue;
    }
    EXPECT_GT(Distance(rounded, exact), 1e-4) << ToString(kind);
    EXPECT_LT(Distance(rounded, exact), 2e-2) << ToString(kind);
  }
}

// Beside other weights attention alone is rounded.
TEST(Activations, AttentionIsRoundedWhateverTheWeights) {
  for (const at::ScalarType type : {at::kHalf, at::kFloat}) {
    const std::vector<float> exact =
        Scores(Kind::kVl7b, Options(cpu::Activations::kFloat32), {0}, type);
    const std::vector<float> rounded =
        Scores(Kind::kVl7b, Options(cpu::Activations::kBfloat16), {0}, type);
    EXPECT_EQ(rounded == exact, !cpu::HasBfloatProducts(cpu::BestIsa()));
    EXPECT_LT(Distance(rounded, exact), 1e-2);
  }
}

TEST(Activations, StagesAndRanksGiveTheSameBits) {
  const PipelineOptions options = Options(cpu::Activations::kBfloat16);
  const std::vector<float> expected = Scores(Kind::kVl7b, options, {0});
  for (const std::vector<int>& ranks : std::vector<std::vector<int>>{{0, 0}, {0, 1}, {0, 0, 1}}) {
    EXPECT_EQ(Scores(Kind::kVl7b, options, ranks), expected)
        << ranks.size() << " stages, " << ranks.back() + 1 << " ranks";
  }
}

// Two engines of one process take turns on the same thread.
TEST(Activations, AreThoseOfTheDeviceThatIsEntered) {
  const auto cores = std::make_shared<CorePool>(1);
  const auto exact = MakeStageDevice("cpu", Options(cpu::Activations::kFloat32), cores);
  const auto rounding = MakeStageDevice("cpu", Options(cpu::Activations::kBfloat16), cores);
  EXPECT_EQ(ops::CurrentActivations(), cpu::Activations::kFloat32);
  {
    const auto lease = rounding->Enter();
    EXPECT_EQ(ops::CurrentActivations(), cpu::Activations::kBfloat16);
  }
  EXPECT_EQ(ops::CurrentActivations(), cpu::Activations::kFloat32);
  const auto lease = exact->Enter();
  EXPECT_EQ(ops::CurrentActivations(), cpu::Activations::kFloat32);
}

TEST(Activations, AGpuIsRefused) {
  try {
    MakeStageDevice("cuda:0", Options(cpu::Activations::kBfloat16), std::make_shared<CorePool>(1));
    ADD_FAILURE() << "there is a device";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUsage);
    EXPECT_NE(std::string(error.what()).find("--activations"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace xcomposer
