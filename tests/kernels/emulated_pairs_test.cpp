#include "support/emulated_pairs.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/cpu/linear.h"
#include "kernels/guarded.h"
#include "kernels/kernel_tables.h"

namespace xcomposer::cpu {
namespace {

using F = EmulatedPairs::F;

F Words(uint32_t word) {
  float lane;
  std::memcpy(&lane, &word, 4);
  return F{lane, lane, lane, lane};
}

uint32_t Bits(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return bits;
}

// Facts of Intel's manual: the odd number's product is added first, each with one rounding;
// subnormal numbers count as zero.
TEST(EmulatedPairsTest, FollowTheManual) {
  constexpr uint32_t kOne = 0x3f80, kTwo = 0x4000, kMinusOne = 0xbf80, kTiny = 0x0001;
  const auto sum = [](uint32_t a, uint32_t b, float c) {
    return EmulatedPairs::Fma(Words(a), Words(b), EmulatedPairs::Set(c))[0];
  };
  EXPECT_EQ(sum(kTwo << 16 | kOne, kOne << 16 | kMinusOne, 5.0f), 6.0f);
  // 2^24 + 1 is no float32, 2^24 - 1 + 1 is one.
  EXPECT_EQ(sum(kOne << 16 | kMinusOne, kOne << 16 | kOne, 16777216.0f), 16777215.0f);
  EXPECT_EQ(sum(kMinusOne << 16 | kOne, kOne << 16 | kOne, 16777216.0f), 16777216.0f);
  EXPECT_EQ(sum(kTiny, 0x7f00, 0.0f), 0.0f);
  EXPECT_EQ(sum(0, 0, 1e-42f), 0.0f);
  EXPECT_TRUE(std::isnan(sum(0x7f80, 0, 0.0f)));
}

TEST(EmulatedPairsTest, RoundToTheNearestAndToEven) {
  EXPECT_EQ(EmulatedPairs::Nearest(1.0f), 0x3f80u);
  const auto of = [](uint32_t bits) {
    float x;
    std::memcpy(&x, &bits, 4);
    return EmulatedPairs::Nearest(x);
  };
  EXPECT_EQ(of(0x3f808000), 0x3f80u);
  EXPECT_EQ(of(0x3f818000), 0x3f82u);
  EXPECT_EQ(of(0x3f808001), 0x3f81u);
  EXPECT_EQ(of(0xbf807fff), 0xbf80u);
  EXPECT_EQ(of(0x7f7fffff), 0x7f80u);  // infinite
  EXPECT_EQ(of(0x00000001), 0x0000u);
  EXPECT_EQ(of(0xff800000), 0xff80u);
  EXPECT_EQ(of(0x7f800001), 0x7fc0u);  // still not a number
  const F words = EmulatedPairs::Pairs(F{1, 2, 3, 4}, F{5, 6, 7, 8});
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(Bits(words[i]) << 16, Bits(static_cast<float>(2 * i + 1)));
    EXPECT_EQ(Bits(words[i]) & 0xffff0000u, Bits(static_cast<float>(2 * i + 2)));
  }
}

// The real instruction sums in the same order: one output of two inputs at a time.
TEST(EmulatedPairsTest, AreThoseOfTheProcessor) {
  if (BestIsa() < Isa::kAvx512Bf16) GTEST_SKIP() << "this processor has no pairs of bfloat16";
  Random random(57);
  ThreadPool pool(1);
  constexpr int64_t kRows = 40, kOutputs = 64, kDepth = 320;
  Guarded<float> x(kRows * kDepth), y(kRows * kOutputs), other(kRows * kOutputs);
  Stored weight(kOutputs * kDepth, Format::kBfloat16, random);
  random.Fill(x);
  const auto run = [&](const IsaKernels& kernels, Guarded<float>& to) {
    Linear({.x = x.data(),
            .x_stride = kDepth,
            .rows = kRows,
            .weight = StoredMatrix{weight.data(), Format::kBfloat16, kOutputs, kDepth, kDepth},
            .y = to.data(),
            .y_stride = kOutputs},
           pool, kernels);
  };
  run(KernelsFor(Isa::kAvx512Bf16, Activations::kBfloat16), y);
  run(EmulatedPairKernels(), other);
  for (int64_t i = 0; i < y.size(); ++i) ASSERT_EQ(Bits(y[i]), Bits(other[i])) << i;
}

}  // namespace
}  // namespace xcomposer::cpu
