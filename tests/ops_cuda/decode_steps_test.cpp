// Steps of decoding over memory that stays.
#include <gtest/gtest.h>

#include "model/random_weights.h"
#include "ops_cuda/stage_executor.h"
#include "pipeline/tiny_model.h"
#include "support/cuda_device.h"

namespace xcomposer {
namespace {

/// Sizes that the CUDA kernels take.
ModelConfig SmallModel() {
  ModelConfig config = TinyModel(Kind::kVl7b);
  config.hidden_size = 128;
  config.layers = 2;
  config.heads = 2;
  config.kv_heads = 1;
  config.intermediate_size = 160;
  config.vocab_size = 216;
  return config;
}

class DecodeStepsOnCuda : public testing::Test {
 protected:
  void SetUp() override { cuda_testing::RequireDevice(); }

  std::unique_ptr<StageExecutor> MakeExecutor() {
    RandomWeights host(3);
    cuda_testing::DeviceWeights weights(host, at::kHalf);
    const c10::InferenceMode inference;
    return std::make_unique<StageExecutor>(
        config_, weights, KvShape{.blocks = 12, .block_size = 8},
        at::TensorOptions().device(cuda_testing::CudaDevice()).dtype(at::kHalf));
  }

  /// Three sequences of different lengths: their prompts, then three steps together.
  std::vector<std::vector<float>> Run(StageExecutor& executor) {
    const int64_t prompts[] = {5, 9, 16};
    std::vector<TinySequence> sequences;
    Batch prompt;
    for (int32_t s = 0; s < 3; ++s) {
      sequences.push_back(MakeSequence(prompts[s] + 3, {}, {4 * s + 2, 4 * s, 4 * s + 1}));
      AddSlice(prompt, sequences.back(), 0, prompts[s], config_);
    }
    std::vector<std::vector<float>> scores = {executor.Forward(prompt).values};
    for (int64_t step = 0; step < 3; ++step) {
      Batch batch;
      for (size_t s = 0; s < 3; ++s) {
        const int64_t row = prompts[s] + step;
        AddSlice(batch, sequences[s], row, row + 1, config_);
      }
      scores.push_back(executor.Forward(batch).values);
    }
    return scores;
  }

  ModelConfig config_ = SmallModel();
  cuda_testing::CudaRun cuda_;
};

TEST_F(DecodeStepsOnCuda, RecordedStepsGiveTheBitsOfSingleLaunches) {
  const auto plain = Run(*MakeExecutor());
  const auto recording = MakeExecutor();
  ReplayingRecorder recorder;
  recording->RecordSteps(recorder);
  EXPECT_EQ(Run(*recording), plain);
  EXPECT_EQ(recorder.recorded, 1);
  EXPECT_EQ(recorder.replayed, 2);
}

TEST_F(DecodeStepsOnCuda, OnlyPlainStepsAreTaken) {
  RandomWeights host(3);
  cuda_testing::DeviceWeights weights(host, at::kHalf);
  const c10::InferenceMode inference;
  Stage stage(config_, {.first_layer = 0, .end_layer = 2}, weights, {.blocks = 4, .block_size = 8},
              at::TensorOptions().device(cuda_testing::CudaDevice()).dtype(at::kHalf));
  ReplayingRecorder recorder;
  const DecodeSteps steps(stage, recorder);
  Batch batch;
  AddSlice(batch, MakeSequence(4, {}, {0}), 3, 4, config_);
  EXPECT_TRUE(steps.Takes(batch));
  Batch adapted = batch;
  adapted.sequences[0].adapter = Adapter::kWeb;
  EXPECT_FALSE(steps.Takes(adapted));
  Batch prompt;
  AddSlice(prompt, MakeSequence(4, {}, {0}), 0, 2, config_);
  EXPECT_FALSE(steps.Takes(prompt));
  Batch many;
  for (int i = 0; i < 33; ++i) AddSlice(many, MakeSequence(4, {}, {0}), 3, 4, config_);
  EXPECT_FALSE(steps.Takes(many));
  EXPECT_FALSE(steps.Takes(Batch()));
}

}  // namespace
}  // namespace xcomposer
