// PLoRA's factors beside the weights, as stages on CUDA have them, composed on the CPU.
#include <ATen/Context.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/randn.h>
#include <c10/core/InferenceMode.h>
#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "close_numbers.h"
#include "model/random_weights.h"
#include "pipeline/stage.h"
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

constexpr int64_t kPictureRows = 25;

/// What the layers make of random rows: of two prompts with a picture each, the second one cut in
/// its picture; then of a step of the first one beside the rest of the second. With adapters, where
/// there are some.
std::vector<float> Rows(const ModelConfig& config, WeightSource& weights) {
  const c10::InferenceMode inference;
  Stage stage(config, {.end_layer = config.layers, .first = false, .last = false}, weights,
              {.blocks = 24, .block_size = 4}, at::kCPU);
  const EncodedPicture picture{.rows = kPictureRows};
  std::vector<TinySequence> sequences = {
      MakeSequence(kPictureRows + 9, picture, {0, 3, 2, 1, 4, 5, 6, 9, 8, 7}),
      MakeSequence(kPictureRows + 5, picture, {10, 11, 14, 13, 12, 15, 16, 19, 18, 17})};
  if (config.adapters.web > 0) sequences[0].adapter = Adapter::kWeb;
  if (config.adapters.sft > 0) sequences[1].adapter = Adapter::kWrite;
  std::vector<float> rows;
  at::manual_seed(1);
  const auto run = [&](int64_t first_begin, int64_t first_end, int64_t begin, int64_t end) {
    Batch batch;
    AddSlice(batch, sequences[0], first_begin, first_end, config);
    AddSlice(batch, sequences[1], begin, end, config);
    at::Tensor hidden = at::randn({batch.rows(), config.hidden_size});  // (T, C)
    stage.Run(hidden, batch);
    const auto* numbers = hidden.const_data_ptr<float>();
    rows.insert(rows.end(), numbers, numbers + hidden.numel());
  };
  run(0, kPictureRows + 8, 0, 5);
  run(kPictureRows + 8, kPictureRows + 9, 5, kPictureRows + 5);
  return rows;
}

void ExpectTheSameWhereTheyLieApart(const ModelConfig& config) {
  CopiedWeights copied;
  RandomWeights apart(7);
  ExpectClose(Rows(config, copied), Rows(config, apart));
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
  ExpectTheSameWhereTheyLieApart(WithRanks(Kind::kVl7b, {64, 8, 128, 64, 64}));
  ExpectTheSameWhereTheyLieApart(WithRanks(Kind::kVl7b, {64, 64, 8, 64, 8}));
  ExpectTheSameWhereTheyLieApart(WithRanks(Kind::kVl7b, {8, 8, 8, 64, 8}));
  ExpectTheSameWhereTheyLieApart(WithRanks(Kind::kVl7b, {8, 8, 8, 8, 8}));
}

}  // namespace
}  // namespace xcomposer
