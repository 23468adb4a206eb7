// The whole pipeline on a GPU: what no emulator shows.
#include <gtest/gtest.h>

#include "batch/executor.h"
#include "model/random_weights.h"
#include "pipeline/pipeline.h"
#include "pipeline/tiny_model.h"
#include "support/cuda_device.h"
#include "xcomposer/error.h"

namespace xcomposer {
namespace {

ModelConfig SmallModel(Kind kind) {
  ModelConfig config = TinyModel(kind);
  config.hidden_size = 256;
  config.heads = 4;
  config.kv_heads = 2;
  config.layers = 4;
  config.intermediate_size = 512;
  config.vocab_size = 1000;
  return config;
}

class GpuPipeline : public testing::TestWithParam<Kind> {
 protected:
  void SetUp() override { cuda_testing::RequireDevice(); }

  std::unique_ptr<Pipeline> Load(const std::vector<std::string>& devices, PipelineOptions options) {
    RandomWeights weights(7);
    options.kv = {.blocks = 64, .block_size = 16};
    options.max_batch_rows = 400;
    return std::make_unique<Pipeline>(weights, config_, EvenDeviceMap(config_, devices), options);
  }

  /// A picture and a text in one batch, then steps of both together: all scores.
  std::vector<float> Run(Pipeline& pipeline) {
    const EncodedPicture picture = pipeline.Encode(TinyPicture(config_), "image0", {}, {});
    TinySequence first = MakeSequence(picture.rows + 12, picture, {});
    TinySequence second = MakeSequence(40, {}, {});
    for (int32_t b = 0; b < 30; ++b) first.blocks.push_back(2 * b);
    for (int32_t b = 0; b < 3; ++b) second.blocks.push_back(2 * b + 1);
    Batch prompt;
    AddSlice(prompt, first, 0, picture.rows + 4, config_);
    AddSlice(prompt, second, 0, 32, config_);
    std::vector<float> all = pipeline.Forward(prompt).values;
    for (int64_t step = 0; step < 8; ++step) {
      Batch batch;
      AddSlice(batch, first, picture.rows + 4 + step, picture.rows + 5 + step, config_);
      AddSlice(batch, second, 32 + step, 33 + step, config_);
      const Logits logits = pipeline.Forward(batch);
      all.insert(all.end(), logits.values.begin(), logits.values.end());
    }
    pipeline.Release(picture.feature);
    return all;
  }

  ModelConfig config_ = SmallModel(GetParam());
};

INSTANTIATE_TEST_SUITE_P(, GpuPipeline, testing::Values(Kind::kVl7b, Kind::k25_7b),
                         [](const auto& info) {
                           return info.param == Kind::kVl7b ? "vl_7b" : "k25_7b";
                         });

TEST_P(GpuPipeline, OneRunIsLikeTheNext) {
  auto pipeline = Load({"cuda:0"}, {});
  const std::vector<float> first = Run(*pipeline);
  EXPECT_EQ(Run(*pipeline), first);
  EXPECT_EQ(Run(*Load({"cuda:0"}, {})), first);
}

TEST_P(GpuPipeline, AnswersDoNotDependOnTheSplit) {
  const std::vector<float> whole = Run(*Load({"cuda:0"}, {}));
  EXPECT_EQ(Run(*Load({"cuda:0", "cuda:0"}, {})), whole);
  EXPECT_EQ(Run(*Load({"cuda:0", "cuda:0", "cuda:0"}, {})), whole);
}

TEST_P(GpuPipeline, BFloat16IsKept) {
  PipelineOptions options;
  options.storage = WeightStorage::kBFloat16;
  EXPECT_NE(Run(*Load({"cuda:0"}, options)), Run(*Load({"cuda:0"}, {})));
}

TEST_P(GpuPipeline, OutOfMemoryIsTypedAndLeavesTheGpuUsable) {
  RandomWeights weights(7);
  PipelineOptions options;
  options.kv = {.blocks = int64_t{1} << 26, .block_size = 16};
  try {
    const Pipeline pipeline(weights, config_, EvenDeviceMap(config_, {"cuda:0"}), options);
    ADD_FAILURE() << "a KV pool of a terabyte was given";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kCapacity) << error.what();
  }
  EXPECT_FALSE(Run(*Load({"cuda:0"}, {})).empty());
}

}  // namespace
}  // namespace xcomposer
