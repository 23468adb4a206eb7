// Steps of decoding over memory that stays.
#include <gtest/gtest.h>

#include "ops_cuda/small_steps.h"

namespace xcomposer {
namespace {

class DecodeStepsOnCuda : public testing::Test {
 protected:
  void SetUp() override { cuda_testing::RequireDevice(); }

  std::vector<std::vector<float>> Run(StageExecutor& executor) {
    std::vector<std::vector<float>> scores;
    for (int64_t step = 0; step < SmallSteps::kSteps; ++step) {
      scores.push_back(executor.Forward(steps_.At(step)).values);
    }
    return scores;
  }

  Stage MakeStage(const StageRange& range) {
    RandomWeights host(3);
    cuda_testing::DeviceWeights weights(host, at::kHalf);
    const c10::InferenceMode inference;
    return Stage(config_, range, weights, {.blocks = 12, .block_size = 8},
                 at::TensorOptions().device(cuda_testing::CudaDevice()).dtype(at::kHalf));
  }

  ModelConfig config_ = SmallModel();
  SmallSteps steps_{config_};
  cuda_testing::CudaRun cuda_;
};

TEST_F(DecodeStepsOnCuda, RecordedStepsGiveTheBitsOfSingleLaunches) {
  const auto plain = Run(*MakeSmallExecutor(config_));
  const auto recording = MakeSmallExecutor(config_);
  ReplayingRecorder recorder;
  recording->RecordSteps(recorder);
  EXPECT_EQ(Run(*recording), plain);
  EXPECT_EQ(recorder.recorded, 1);
  EXPECT_EQ(recorder.replayed, 2);
}

TEST_F(DecodeStepsOnCuda, ManyHeadsToAKeyGiveTheBitsOfSingleLaunches) {
  ModelConfig config = config_;
  config.heads = 9;  // more than the kernel for single rows takes
  config.hidden_size = 9 * 64;
  const SmallSteps steps(config);
  const auto run = [&](StageExecutor& executor) {
    std::vector<std::vector<float>> scores;
    for (int64_t step = 0; step < 3; ++step) {
      scores.push_back(executor.Forward(steps.At(step)).values);
    }
    return scores;
  };
  const auto plain = run(*MakeSmallExecutor(config));
  const auto recording = MakeSmallExecutor(config);
  ReplayingRecorder recorder;
  recording->RecordSteps(recorder);
  EXPECT_EQ(run(*recording), plain);
}

TEST_F(DecodeStepsOnCuda, StagesHandTheirRowsOn) {
  const auto plain = Run(*MakeSmallExecutor(config_));
  Stage first = MakeStage({.first_layer = 0, .end_layer = 1, .last = false});
  Stage last = MakeStage({.first_layer = 1, .end_layer = 2, .first = false});
  ReplayingRecorder recorder;
  DecodeSteps first_steps(first, recorder, at::kCPU);
  DecodeSteps last_steps(last, recorder, at::kCPU);
  const c10::InferenceMode inference;
  const Batch prompt = steps_.At(0);
  at::Tensor hidden = first.Embed(prompt, {});
  first.Run(hidden, prompt);
  last.Run(hidden, prompt);
  at::Tensor before;
  for (int64_t step = 1; step < SmallSteps::kSteps; ++step) {
    const Batch batch = steps_.At(step);
    const at::Tensor rows = first_steps.Run({}, batch);
    const at::Tensor kept = rows.cpu().clone();
    EXPECT_EQ(last_steps.Score(rows, batch).values, plain[static_cast<size_t>(step)]);
    EXPECT_TRUE(rows.cpu().equal(kept));  // the next stage may still read them
    if (before.defined()) {
      EXPECT_FALSE(before.equal(kept));
    }
    before = kept;
  }
  EXPECT_EQ(recorder.recorded, 2);
}

TEST_F(DecodeStepsOnCuda, RowsThatNobodyAsksAboutGiveNoScores) {
  const auto plain = MakeSmallExecutor(config_);
  const auto recording = MakeSmallExecutor(config_);
  ReplayingRecorder recorder;
  recording->RecordSteps(recorder);
  plain->Forward(steps_.At(0));
  recording->Forward(steps_.At(0));
  Batch batch = steps_.At(1);
  batch.sequences[1].wants_logits = false;
  const Logits expected = plain->Forward(batch);
  const Logits found = recording->Forward(batch);
  EXPECT_EQ(found.rows, 2);
  EXPECT_EQ(found.values, expected.values);
  for (SequenceSlice& sequence : batch.sequences) sequence.wants_logits = false;
  EXPECT_EQ(recording->Forward(batch).rows, 0);
}

TEST_F(DecodeStepsOnCuda, OnlyPlainStepsAreTaken) {
  Stage stage = MakeStage({.first_layer = 0, .end_layer = 2});
  ReplayingRecorder recorder;
  const DecodeSteps steps(stage, recorder, at::kCPU);
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
