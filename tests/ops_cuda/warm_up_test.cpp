// What is run before the first request.
#include "pipeline/warm_up.h"

#include <gtest/gtest.h>

#include "ops_cuda/small_steps.h"

namespace xcomposer {
namespace {

constexpr KvShape kCache{.blocks = 12, .block_size = 8};

class WarmUpOnCuda : public testing::Test {
 protected:
  void SetUp() override { cuda_testing::RequireDevice(); }

  Stage MakeStage(const StageRange& range, KvShape cache = kCache) {
    RandomWeights host(3);
    cuda_testing::DeviceWeights weights(host, at::kHalf);
    const c10::InferenceMode inference;
    return Stage(config_, range, weights, cache,
                 at::TensorOptions().device(cuda_testing::CudaDevice()).dtype(at::kHalf));
  }

  std::vector<std::vector<float>> Answers(Stage& stage, DecodeSteps& decode) {
    std::vector<std::vector<float>> answers;
    for (int64_t step = 0; step < SmallSteps::kSteps; ++step) {
      const Batch batch = steps_.At(step);
      if (step > 0) {
        answers.push_back(decode.Score({}, batch).values);
        continue;
      }
      at::Tensor hidden = stage.Embed(batch, {});
      stage.Run(hidden, batch);
      answers.push_back(stage.Score(hidden, batch).values);
    }
    return answers;
  }

  ModelConfig config_ = SmallModel();
  SmallSteps steps_{config_};
  cuda_testing::CudaRun cuda_;
};

TEST_F(WarmUpOnCuda, LeavesNothingThatAnAnswerCouldShow) {
  const c10::InferenceMode inference;
  std::vector<std::vector<std::vector<float>>> answers;
  for (const bool warm : {false, true}) {
    Stage stage = MakeStage({.first_layer = 0, .end_layer = 2});
    ReplayingRecorder recorder;
    DecodeSteps decode(stage, recorder, at::kCPU);
    if (warm) WarmUp(stage, decode, 40, at::kCPU);
    answers.push_back(Answers(stage, decode));
  }
  EXPECT_EQ(answers[0], answers[1]);
}

TEST_F(WarmUpOnCuda, StagesAreWarmedUpAloneAndCachesMayBeSmall) {
  const c10::InferenceMode inference;
  const KvShape tiny{.blocks = 1, .block_size = 8};
  for (const StageRange& range : {StageRange{.first_layer = 0, .end_layer = 1, .last = false},
                                  StageRange{.first_layer = 1, .end_layer = 2, .first = false},
                                  StageRange{.first_layer = 0, .end_layer = 0, .last = false}}) {
    for (const KvShape& cache : {tiny, kCache}) {
      Stage stage = MakeStage(range, cache);
      ReplayingRecorder recorder;
      DecodeSteps decode(stage, recorder, at::kCPU);
      WarmUp(stage, decode, 500, at::kCPU);
      EXPECT_EQ(recorder.recorded, 0);
    }
  }
}

}  // namespace
}  // namespace xcomposer
