#include "config/kv_type.h"

#include <gtest/gtest.h>

#include "kernels/cpu/kv_format.h"

namespace xcomposer {
namespace {

// The rooms that plan may not look into the kernels, so that what a head takes is written twice.
TEST(KvType, AHeadTakesWhatTheKernelsSay) {
  for (int64_t dim = 1; dim <= 300; ++dim) {
    EXPECT_EQ(KvHeadBytes(KvType::kFloat32, dim), cpu::KvHeadBytes(cpu::KvFormat::kFloat32, dim));
    EXPECT_EQ(KvHeadBytes(KvType::kInt8, dim), cpu::KvHeadBytes(cpu::KvFormat::kInt8, dim)) << dim;
    EXPECT_EQ(KvHeadBytes(KvType::k16Bit, dim), 2 * dim);
  }
}

TEST(KvType, APositionIsKeysAndValuesOfAllHeads) {
  ModelConfig config;
  config.hidden_size = 4096;
  config.heads = 32;
  config.kv_heads = 8;
  EXPECT_EQ(KvBytesPerPosition(config, KvType::kFloat32), 8192);
  EXPECT_EQ(KvBytesPerPosition(config, KvType::k16Bit), 4096);
  EXPECT_EQ(KvBytesPerPosition(config, KvType::kInt8), 2 * 8 * (128 + 4 * 2));
}

}  // namespace
}  // namespace xcomposer
