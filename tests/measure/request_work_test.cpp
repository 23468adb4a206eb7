#include "measure/request_work.h"

#include "gmock/gmock.h"
#include "placement/worlds.h"

namespace xcomposer::measure {
namespace {

constexpr double kLayerNumbers = 218103808 + 2 * 4096;  // five linears, two norms
constexpr double kHeadNumbers = 92544.0 * 4096;

Storage Half(KvType kv = KvType::k16Bit) { return {.weights = WeightType::kFloat16, .kv = kv}; }

TEST(RequestWork, ATokenReadsBodyHeadAndKeys) {
  const ModelConfig config = Shipped(Kind::kVl7b);
  const Work token = DecodeWork(config, Half(), 1023, 1);
  const double weights = 2 * (32 * kLayerNumbers + kHeadNumbers) + 2 * 4096;  // and one embedding
  EXPECT_NEAR(weights / 1e9, 14.717, 1e-3);
  EXPECT_DOUBLE_EQ(token.bytes, weights + 1024 * (128 << 10));
  EXPECT_DOUBLE_EQ(token.operations,
                   2 * (32 * kLayerNumbers + kHeadNumbers) + 4.0 * 1024 * 4096 * 32);
}

TEST(RequestWork, EachTokenHasOneKeyMore) {
  const ModelConfig config = Shipped(Kind::kVl7b);
  const Work all = DecodeWork(config, Half(KvType::kFloat32), 100, 3);
  Work sum;
  for (const int64_t before : {100, 101, 102})
    sum += DecodeWork(config, Half(KvType::kFloat32), before, 1);
  EXPECT_DOUBLE_EQ(all.bytes, sum.bytes);
  EXPECT_DOUBLE_EQ(all.operations, sum.operations);
  EXPECT_GT(DecodeWork(config, Half(KvType::kFloat32), 101, 1).bytes,
            DecodeWork(config, Half(KvType::kFloat32), 100, 1).bytes);
}

TEST(RequestWork, APromptIsTheBodyForEachRowAndTheHeadOnce) {
  const ModelConfig config = Shipped(Kind::kVl7b);
  const Work text = PrefillWork(config, Half(), {512, 0});
  EXPECT_DOUBLE_EQ(text.operations,
                   2 * 512 * 32 * kLayerNumbers + 2.0 * 512 * 512 * 4096 * 32 + 2 * kHeadNumbers);
  EXPECT_DOUBLE_EQ(text.bytes, 2 * (32 * kLayerNumbers + kHeadNumbers));
  // 1.208 GFLOP more for each row that came from a picture, none for those of text.
  const Work picture = PrefillWork(config, Half(), {512, 500});
  EXPECT_NEAR((picture.operations - text.operations) / 500 / 1e9, 1.208, 1e-3);
}

TEST(RequestWork, LongPromptsReadTheWeightsOncePerChunk) {
  const ModelConfig config = Shipped(Kind::kVl7b);
  Storage storage = Half();
  storage.prefill_chunk = 256;
  const double once = PrefillWork(config, storage, {256, 0}).bytes;
  EXPECT_DOUBLE_EQ(PrefillWork(config, storage, {1024, 0}).bytes - once,
                   3 * 2 * 32 * kLayerNumbers);
}

TEST(RequestWork, QuantisedWeightsReadLessAndComputeTheSame) {
  const ModelConfig config = Shipped(Kind::kVl1_8b);
  const Work half = DecodeWork(config, Half(), 1, 1);
  const Work eight = DecodeWork(config, {.weights = WeightType::kInt8, .kv = KvType::k16Bit}, 1, 1);
  EXPECT_EQ(eight.operations, half.operations);
  // 62,914,560 numbers of a layer's linears, and the output matrix, lose a byte each and get 3 for
  // every 128.
  const double linears = 24.0 * 62914560 + 92544.0 * 2048;
  EXPECT_DOUBLE_EQ(half.bytes - eight.bytes, linears - linears / 128 * 3);
}

TEST(RequestWork, KeysAndValuesInInt8ReadLessAndComputeTheSame) {
  const ModelConfig config = Shipped(Kind::kVl7b);
  const Work plain = DecodeWork(config, Half(KvType::kFloat32), 1023, 1);
  const Work int8 = DecodeWork(config, Half(KvType::kInt8), 1023, 1);
  EXPECT_EQ(int8.operations, plain.operations);
  // 1024 positions of 32 layers: 16 heads of 512 bytes, or of 128 codes and 8 bytes of scales.
  EXPECT_DOUBLE_EQ(plain.bytes - int8.bytes, 1024.0 * 32 * 16 * (512 - 136));
}

TEST(RequestWork, ACheckpointThatIsQuantisedComputesTheSame) {
  ModelConfig config = Shipped(Kind::kVl7b);
  const Work half = PrefillWork(config, Half(), {16, 0});
  config.quantization = {Quantization::Method::kGptq, 4, 128};
  EXPECT_EQ(PrefillWork(config, Half(), {16, 0}).operations, half.operations);
  EXPECT_LT(PrefillWork(config, Half(), {16, 0}).bytes, 0.4 * half.bytes);
  for (const Quantization& other : {Quantization{Quantization::Method::kAwq, 4, 128}, kInt4}) {
    config.quantization = other;
    EXPECT_EQ(PrefillWork(config, Half(), {16, 0}).operations, half.operations);
  }
}

TEST(RequestWork, APictureIsTowerAndProjector) {
  const ModelConfig config = Shipped(Kind::kVl7b);
  const Work work = VisionWork(config, Half(), {490, 490, 1, 1, 1225});
  EXPECT_NEAR(work.operations / 1e12, 0.89 + 0.05, 0.01);
  EXPECT_NEAR(work.bytes / 1e9, 0.608 + 0.042, 2e-3);
}

}  // namespace
}  // namespace xcomposer::measure
