// PLoRA's factors beside the weights, as stages on CUDA have them, composed on the CPU.
#include <ATen/ops/empty.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <memory>

#include "model/random_weights.h"
#include "pipeline/pipeline.h"
#include "tiny_model.h"

namespace xcomposer {
namespace {

/// Random weights that are copied, and so may be put beside each other.
class CopiedWeights final : public WeightSource {
 public:
  bool stacks() const override { return true; }
  at::Tensor Allocate(at::IntArrayRef shape) override { return at::empty(shape, at::kBFloat16); }

  RandomWeights host{7};

 private:
  at::Tensor Load(const std::string& name, at::IntArrayRef shape) override {
    return host.Take(name, shape);
  }
};

std::unique_ptr<Pipeline> MakePipeline(const ModelConfig& config, WeightSource& weights) {
  PipelineOptions options;
  options.kv = {.blocks = 64, .block_size = 4};
  options.max_batch_rows = 200;
  return std::make_unique<Pipeline>(weights, config, EvenDeviceMap(config, {"cpu"}), options);
}

/// A batch of two prompts with a picture each, the second one cut in the middle of its picture; one
/// row of decoding for the first, beside the rest of the second. With adapters, where there are
/// some.
std::vector<float> Scores(const ModelConfig& config, WeightSource& weights) {
  const auto pipeline = MakePipeline(config, weights);
  const EncodedPicture picture = pipeline->Encode(TinyPicture(config), "image0", {});
  std::vector<TinySequence> sequences = {
      MakeSequence(picture.rows + 9, picture, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14}),
      MakeSequence(picture.rows + 5, picture,
                   {15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29})};
  if (config.adapters.web > 0) sequences[0].adapter = Adapter::kWeb;
  if (config.adapters.sft > 0) sequences[1].adapter = Adapter::kWrite;
  std::vector<float> scores;
  const auto run = [&](int64_t first_begin, int64_t first_end, int64_t begin, int64_t end) {
    Batch batch;
    AddSlice(batch, sequences[0], first_begin, first_end, config);
    AddSlice(batch, sequences[1], begin, end, config);
    const std::vector<float> values = pipeline->Forward(batch).values;
    scores.insert(scores.end(), values.begin(), values.end());
  };
  run(0, picture.rows + 8, 0, 5);
  run(picture.rows + 8, picture.rows + 9, 5, picture.rows + 5);
  return scores;
}

/// Two orders of float32 summation, as properties_test.cpp has it.
void ExpectClose(const std::vector<float>& a, const std::vector<float>& b) {
  ASSERT_EQ(a.size(), b.size());
  double squares = 0;
  for (const float x : a) squares += static_cast<double>(x) * x;
  const double bound = 1e-4 * std::sqrt(squares / static_cast<double>(a.size()));
  for (size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], bound) << i;
}

void ExpectTheSameWhereTheyLieApart(const ModelConfig& config) {
  CopiedWeights copied;
  RandomWeights apart(7);
  ExpectClose(Scores(config, copied), Scores(config, apart));
  EXPECT_EQ(copied.bytes(), apart.bytes());
}

/// Of wqkv, wo, w1, w2 and w3.
ModelConfig WithRanks(Kind kind, const std::array<int64_t, kDecoderLinears>& ranks) {
  ModelConfig config = TinyModel(kind);
  for (size_t i = 0; i < ranks.size(); ++i) config.plora[i].rank = ranks[i];
  return config;
}

TEST(JoinedAdapters, GiveWhatTheyGiveApart) {
  ExpectTheSameWhereTheyLieApart(WithRanks(Kind::kVl7b, {64, 64, 64, 64, 64}));
  ModelConfig scaled = WithRanks(Kind::k4khd7b, {64, 128, 64, 192, 64});
  for (PloraShape& plora : scaled.plora) plora.scale = 2.0;
  ExpectTheSameWhereTheyLieApart(scaled);
}

TEST(JoinedAdapters, StandBesideThoseOfTheRequest) {
  ExpectTheSameWhereTheyLieApart(WithRanks(Kind::k25_7b, {64, 64, 64, 64, 64}));
}

// As in 4khd one of them is too narrow; w1 and w3 differ, or are too narrow both.
TEST(JoinedAdapters, AreLeftApartOneByOne) {
  ExpectTheSameWhereTheyLieApart(WithRanks(Kind::k4khd7b, {8, 64, 64, 64, 64}));
  ExpectTheSameWhereTheyLieApart(WithRanks(Kind::kVl7b, {64, 8, 64, 64, 128}));
  ExpectTheSameWhereTheyLieApart(WithRanks(Kind::kVl7b, {64, 64, 8, 64, 8}));
  ExpectTheSameWhereTheyLieApart(WithRanks(Kind::kVl7b, {8, 8, 8, 64, 8}));
  ExpectTheSameWhereTheyLieApart(WithRanks(Kind::kVl7b, {8, 8, 8, 8, 8}));
}

}  // namespace
}  // namespace xcomposer
