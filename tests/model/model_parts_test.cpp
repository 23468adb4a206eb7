#include <ATen/ops/add.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>

#include <cmath>
#include <map>

#include "gmock/gmock.h"
#include "model/batch_tensors.h"
#include "model/projector.h"
#include "model/random_weights.h"
#include "model/vision_views.h"
#include "model/weight_scope.h"
#include "support/given_weights.h"
#include "xcomposer/error.h"

namespace xcomposer {
namespace {

using testing::HasSubstr;

VisionConfig SmallTiles() {
  return {.hidden_size = 2,
          .layers = 1,
          .heads = 1,
          .intermediate_size = 4,
          .patch = 14,
          .tile = 56,
          .layer_norm_eps = 1e-5,
          .tiled = true};
}

Picture Gradient(int64_t width, int64_t height) {
  Picture picture{width, height, {}};
  for (int64_t y = 0; y < height; ++y) {
    for (int64_t x = 0; x < width; ++x) {
      for (int64_t c = 0; c < 3; ++c) {
        picture.rgb.push_back(static_cast<uint8_t>((5 * x + 3 * y + 70 * c) % 256));
      }
    }
  }
  return picture;
}

TEST(VisionViews, OneTileEqualsItsGlobalView) {
  const VisionViews views(SmallTiles(), Gradient(56, 56), at::kCPU);
  ASSERT_EQ(views.count(), 2);
  EXPECT_TRUE(at::equal(views.Take(0, 1), views.Take(1, 1)));
}

TEST(VisionViews, TakeWhateverLayoutsGive) {
  VisionConfig config = SmallTiles();
  config.tile = 2;
  const VisionViews views(config, Gradient(int64_t{2} << 20, 2), at::kCPU);
  EXPECT_EQ(views.count(), 1 + (1 << 20));
}

TEST(VisionViews, RefusePicturesWhoseBytesAreNotTheirs) {
  for (const auto& [width, height] : {std::pair<int64_t, int64_t>{56, 57},
                                      {0, 56},
                                      {-56, -56},
                                      {INT64_MAX, 3},
                                      {int64_t{1} << 32, int64_t{1} << 32}}) {
    Picture picture = Gradient(56, 56);
    picture.width = width;
    picture.height = height;
    EXPECT_THROW(VisionViews(SmallTiles(), picture, at::kCPU), Error) << width;
  }
}

TEST(VisionViews, OddShrinkTakesTheMiddlePixelAndTilesAreRowMajor) {
  const Picture picture = Gradient(3 * 56, 3 * 56);
  const VisionViews views(SmallTiles(), picture, at::kCPU);
  ASSERT_EQ(views.count(), 10);
  const at::Tensor all = views.Take(0, 10);  // (10, 3, 56, 56)
  for (const int64_t i : {0, 7, 55}) {
    const int64_t tile = 1 + (3 * i + 1) / 56 * 3 + (3 * 5 + 1) / 56;
    EXPECT_NEAR(all[0][1][i][5].item<float>(), all[tile][1][(3 * i + 1) % 56][16].item<float>(),
                1e-6);
  }
  const uint8_t value =
      picture.rgb[static_cast<size_t>(3 * (60 * 168 + 120) + 2)];  // row 60, column 120
  const float expected = (static_cast<float>(value) / 255.0f - 0.40821073f) / 0.27577711f;
  EXPECT_EQ(all[1 + 3 + 2][2][4][8].item<float>(), expected);
}

TEST(Projector, MergesFourPatchesAndEndsRowsWithSeparators) {
  ModelConfig config;
  config.hidden_size = 8;
  config.vision = SmallTiles();  // grid 4, merged grid 2, merged width 8
  GivenWeights weights;
  at::Tensor identity = at::full({8, 8}, 0.0, at::kFloat);
  for (int64_t i = 0; i < 8; ++i) identity[i][i] = 1.0f;
  weights.tensors = {{"vision_proj.0.weight", identity},
                     {"vision_proj.2.weight", identity},
                     {"vision_proj.0.bias", at::full({8}, 0.0, at::kFloat)},
                     {"vision_proj.2.bias", at::full({8}, 0.0, at::kFloat)},
                     {"plora_glb_GN", at::full({1, 1, 8}, 1000.0, at::kFloat)},
                     {"plora_sub_GN", at::full({1, 1, 1, 8}, 2000.0, at::kFloat)}};
  const Projector projector(config, WeightScope(weights));
  // Large positive values pass the GELU unchanged. features[view][patch][channel] names its place.
  const int64_t n = 1 + 2 * 3;
  const at::Tensor features = at::arange(n * 16 * 2, at::kFloat).view({n, 16, 2}).add(100.0);
  const at::Tensor classes = at::full({n, 1, 2}, 3000.0, at::kFloat);
  const at::Tensor rows =
      projector.Forward(at::cat({classes, features}, 1), 2, 3);  // 2 rows of 3 tiles
  ASSERT_EQ(rows.size(0), (2 * 3 + 1) * 4 + 1 + (2 + 1) * 2);
  const auto at_row = [&](int64_t row, int64_t channel) {
    return rows[row][channel].item<float>();
  };
  const auto feature = [&](int64_t view, int64_t i, int64_t j, int64_t c) {
    return features[view][4 * i + j][c].item<float>();
  };
  // Global token (1, 0): patches (2,0) (2,1) (3,0) (3,1).
  EXPECT_EQ(at_row(3, 0), feature(0, 2, 0, 0));
  EXPECT_EQ(at_row(3, 3), feature(0, 2, 1, 1));
  EXPECT_EQ(at_row(3, 4), feature(0, 3, 0, 0));
  EXPECT_EQ(at_row(3, 7), feature(0, 3, 1, 1));
  EXPECT_EQ(at_row(2, 0), 2000.0f);
  EXPECT_EQ(at_row(5, 0), 2000.0f);
  EXPECT_EQ(at_row(6, 0), 1000.0f);
  // Tiles are stitched: row 1 of the grid, column 4 is tile (0, 2), token (1, 0).
  EXPECT_EQ(at_row(7 + 7 + 4, 0), feature(1 + 2, 2, 0, 0));
  EXPECT_EQ(at_row(7 + 6, 0), 2000.0f);
  // Row 2 of the grid, column 3 is tile (1, 1), token (0, 1).
  EXPECT_EQ(at_row(7 + 2 * 7 + 3, 0), feature(1 + 3 + 1, 0, 2, 0));
  EXPECT_EQ(at_row(rows.size(0) - 1, 0), 2000.0f);
}

TEST(WeightScope, ChecksShapesAndTicksOff) {
  RandomWeights weights(3);
  const WeightScope scope = WeightScope(weights).Sub("model.layers.17");
  EXPECT_EQ(scope.Take("attention.wqkv.weight", {6, 4}).sizes(), (std::vector<int64_t>{6, 4}));
  EXPECT_THROW(scope.Take("attention.wqkv.weight", {6, 4}), Error);
  try {
    weights.RequireTaken({"model.layers.17.attention.wqkv.weight", "output.weight"});
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("output.weight"));
    EXPECT_THAT(error.what(), testing::Not(HasSubstr("wqkv")));
  }
  GivenWeights given;
  given.tensors["a"] = at::full({2, 3}, 1.0, at::kFloat);
  given.tensors["b"] = at::full({2, 3}, 1, at::kInt);
  EXPECT_THROW(given.Take("a", {3, 2}), Error);
  EXPECT_THROW(given.Take("b", {2, 3}), Error);
}

TEST(RandomWeights, DependOnNameAndSeedOnly) {
  RandomWeights one(3);
  RandomWeights two(3);
  RandomWeights other(4);
  two.Take("b", {5, 7});
  const at::Tensor a = one.Take("a", {5, 7});
  EXPECT_TRUE(at::equal(a, two.Take("a", {5, 7})));
  EXPECT_FALSE(at::equal(a, other.Take("a", {5, 7})));
  EXPECT_FALSE(at::equal(a, one.Take("c", {5, 7})));
}

TEST(BatchTensors, EverySequenceHasItsOwnBaseAndPosition) {
  ModelConfig config;
  config.hidden_size = 32;
  config.heads = 2;
  const KvShape kv{.blocks = 10, .block_size = 50};
  Batch batch;
  batch.ids.assign(5, 0);
  batch.sequences.resize(2);
  batch.sequences[0] = {0, 3, 0, 1e6, Adapter::kBase, true, {}, {0}};
  batch.sequences[1] = {3, 2, 40, 5e6, Adapter::kBase, true, {}, {1}};
  const BatchTensors tensors = MakeBatchTensors(config, batch, kv, at::kCPU);
  EXPECT_EQ(tensors.cos.sizes(), (std::vector<int64_t>{5, 8}));
  EXPECT_NEAR(tensors.cos[2][3].item<float>(), std::cos(2.0 * std::pow(1e6, -6.0 / 16)), 1e-6);
  EXPECT_NEAR(tensors.sin[4][3].item<float>(), std::sin(41.0 * std::pow(5e6, -6.0 / 16)), 1e-6);
  config.rope.scaling = RopeConfig::Scaling::kLinear;
  config.rope.factor = 4.0;
  const BatchTensors slow = MakeBatchTensors(config, batch, kv, at::kCPU);
  EXPECT_NEAR(slow.sin[4][3].item<float>(), std::sin(41.0 / 4 * std::pow(5e6, -6.0 / 16)), 1e-6);
}

TEST(BatchTensors, SlotsFollowTheBlockTablesAndSpansJoin) {
  ModelConfig config;
  config.hidden_size = 32;
  config.heads = 2;
  Batch batch;
  batch.ids.assign(7, 0);
  batch.sequences.resize(2);
  batch.sequences[0] = {0, 3, 6, 1e6, Adapter::kWeb, true, {}, {5, 2, 9}};
  batch.sequences[1] = {3, 4, 0, 1e6, Adapter::kWeb, true, {}, {1}};
  batch.features = {{0, 2, 1, 0}, {2, 3, 2, 0}, {6, 1, 3, 0}};
  const BatchTensors tensors =
      MakeBatchTensors(config, batch, {.blocks = 10, .block_size = 4}, at::kCPU);
  const std::vector<int64_t> slots(tensors.slots.const_data_ptr<int64_t>(),
                                   tensors.slots.const_data_ptr<int64_t>() + 7);
  EXPECT_THAT(slots, testing::ElementsAre(2 * 4 + 2, 2 * 4 + 3, 9 * 4, 4, 5, 6, 7));
  EXPECT_THAT(tensors.picture_rows, testing::ElementsAre(0, 5, 6, 7));
  EXPECT_THAT(tensors.web_rows, testing::ElementsAre(0, 7));
  EXPECT_TRUE(tensors.write_rows.empty());
  EXPECT_FALSE(tensors.base_only());
  EXPECT_EQ(tensors.sequences.longest, 4);
}

}  // namespace
}  // namespace xcomposer
