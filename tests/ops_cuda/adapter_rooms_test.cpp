// Prompts with pictures where PLoRA's factors lie beside the weights, and where they do not.
#include <gtest/gtest.h>

#include <array>

#include "model/random_weights.h"
#include "ops_cuda/margin_rule.h"
#include "ops_cuda/small_steps.h"
#include "support/rounded_ops.h"

namespace xcomposer {
namespace {

constexpr KvShape kCache{.blocks = 16, .block_size = 8};

/// Ranks of wqkv, wo, w1, w2 and w3.
ModelConfig WithRanks(const std::array<int64_t, kDecoderLinears>& ranks) {
  ModelConfig config = SmallModel();
  for (size_t i = 0; i < ranks.size(); ++i) config.plora[i] = {.rank = ranks[i], .scale = 2.0};
  config.adapters = {.sft = 8, .dpo = 16, .web = 24};
  return config;
}

/// The scores of two prompts with a picture each, the second one cut in its picture; then of a step
/// of the first one beside the rest of the second.
std::vector<float> Scores(const ModelConfig& config, WeightSource& weights,
                          const at::TensorOptions& options) {
  const c10::InferenceMode inference;
  StageExecutor executor(config, weights, kCache, options);
  const EncodedPicture picture = executor.Encode(TinyPicture(config), "", {}, {});
  std::vector<TinySequence> sequences = {
      MakeSequence(picture.rows + 9, picture, {4, 1, 2, 3, 0, 5}),
      MakeSequence(picture.rows + 5, picture, {9, 11, 10, 8, 7, 6})};
  sequences[1].adapter = Adapter::kWrite;
  std::vector<float> scores;
  const auto run = [&](int64_t first_begin, int64_t first_end, int64_t begin, int64_t end) {
    Batch batch;
    AddSlice(batch, sequences[0], first_begin, first_end, config);
    AddSlice(batch, sequences[1], begin, end, config);
    const std::vector<float> values = executor.Forward(batch).values;
    scores.insert(scores.end(), values.begin(), values.end());
  };
  run(0, picture.rows + 8, 0, 5);
  run(picture.rows + 8, picture.rows + 9, 5, picture.rows + 5);
  return scores;
}

class AdapterRoomsOnCuda : public testing::Test {
 protected:
  void SetUp() override { cuda_testing::RequireDevice(); }

  /// At most twice the error of the plain computation that stores the same things.
  void ExpectLikeThePlainComputation(const ModelConfig& config) {
    const auto on_cpu = [&config] {
      RandomWeights weights(3);
      return Scores(config, weights, at::kCPU);
    };
    const std::vector<float> exact = on_cpu();
    const std::vector<float> rounded = [&] {
      const RoundedOps scope;
      return on_cpu();
    }();
    RandomWeights host(3);
    cuda_testing::DeviceWeights weights(host, at::kHalf);
    const std::vector<float> cuda = Scores(
        config, weights, at::TensorOptions().device(cuda_testing::CudaDevice()).dtype(at::kHalf));
    EXPECT_LE(LargestDifference(cuda, exact), 2 * LargestDifference(rounded, exact) + 1e-6);
  }

  cuda_testing::CudaRun cuda_;
};

TEST_F(AdapterRoomsOnCuda, AllBesideTheirWeights) {
  ExpectLikeThePlainComputation(WithRanks({64, 64, 64, 128, 64}));
}

// wqkv as in 4khd; w1 and w3 that are no pair.
TEST_F(AdapterRoomsOnCuda, SomeBesideTheirWeights) {
  ExpectLikeThePlainComputation(WithRanks({8, 64, 64, 64, 64}));
  ExpectLikeThePlainComputation(WithRanks({64, 8, 64, 8, 128}));
}

TEST_F(AdapterRoomsOnCuda, NoneBesideTheirWeights) {
  ExpectLikeThePlainComputation(WithRanks({8, 8, 8, 8, 8}));
}

}  // namespace
}  // namespace xcomposer
