#include "model/kv_cache.h"

#include <ATen/ops/equal.h>
#include <ATen/ops/randint.h>
#include <gtest/gtest.h>

#include "xcomposer/error.h"

namespace xcomposer {
namespace {

/// 2 key-value heads of 48 numbers.
ModelConfig Model() {
  ModelConfig config;
  config.hidden_size = 192;
  config.heads = 4;
  config.kv_heads = 2;
  return config;
}

KvCache Cache(at::ScalarType type, int64_t layers = 3) {
  return {Model(), layers, {.blocks = 5, .block_size = 4}, at::TensorOptions(at::kCPU).dtype(type)};
}

TEST(KvCache, AHeadHasItsNumbersOrTheBytesThatTheyTake) {
  KvCache plain = Cache(at::kFloat);
  EXPECT_EQ(plain.keys(2).sizes(), at::IntArrayRef({5, 4, 2, 48}));
  EXPECT_EQ(plain.bytes(), 3 * 2 * 5 * 4 * 2 * 48 * 4);
  EXPECT_EQ(Cache(at::kBFloat16).bytes(), 3 * 2 * 5 * 4 * 2 * 48 * 2);
  KvCache int8 = Cache(at::kChar);
  EXPECT_EQ(int8.values(0).sizes(), at::IntArrayRef({5, 4, 2, 2 * 32 + 2 * 2}));
  EXPECT_EQ(int8.values(0).scalar_type(), at::kChar);
  EXPECT_EQ(int8.bytes(), 3 * 2 * 5 * 4 * 2 * 68);
}

TEST(KvCache, CopiesWholeBlocksOfEveryLayer) {
  for (const at::ScalarType type : {at::kFloat, at::kChar}) {
    KvCache cache = Cache(type);
    for (int64_t layer = 0; layer < 3; ++layer) {
      cache.keys(layer).copy_(at::randint(1, 100, cache.keys(layer).sizes()));
      cache.values(layer).copy_(at::randint(1, 100, cache.values(layer).sizes()));
    }
    cache.Copy({{1, 3}, {3, 0}});
    for (int64_t layer = 0; layer < 3; ++layer) {
      for (const at::Tensor& t : {cache.keys(layer), cache.values(layer)}) {
        EXPECT_TRUE(at::equal(t[3], t[1]));
        EXPECT_TRUE(at::equal(t[0], t[1]));
        EXPECT_FALSE(at::equal(t[2], t[1]));
      }
    }
  }
}

TEST(KvCache, OtherTypesAreRefused) {
  try {
    Cache(at::kDouble);
    ADD_FAILURE() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kInternal);
  }
}

}  // namespace
}  // namespace xcomposer
