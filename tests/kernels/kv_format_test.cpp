#include "kernels/cpu/kv_format.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "kernels/kept_heads.h"

namespace xcomposer::cpu {
namespace {

/// One head.
struct Kept : KeptHeads {
  explicit Kept(const std::vector<float>& numbers)
      : KeptHeads(1, static_cast<int64_t>(numbers.size()), KvFormat::kInt8, 0x5a) {
    Keep(0, numbers.data());
  }
};

TEST(KvFormat, TakesTheBytesThatItSays) {
  EXPECT_EQ(KvHeadBytes(KvFormat::kFloat32, 128), 512);
  EXPECT_EQ(KvHeadBytes(KvFormat::kInt8, 128), 136);
  EXPECT_EQ(KvHeadBytes(KvFormat::kInt8, 64), 68);
  EXPECT_EQ(KvHeadBytes(KvFormat::kInt8, 2), 34);
  EXPECT_EQ(KvHeadBytes(KvFormat::kInt8, 33), 68);
}

TEST(KvFormat, NumbersStayWithinHalfAStep) {
  Random random(1);
  for (const int64_t dim : {1, 2, 31, 32, 33, 64, 100, 128}) {
    for (const float size : {1e-30f, 1e-6f, 1.0f, 700.0f, 1e30f, 3e38f}) {
      Guarded<float> numbers(dim);
      random.Fill(numbers, size);
      KeptHeads kept(1, dim, KvFormat::kInt8, 0x5a);
      kept.Keep(0, numbers.data());
      for (int64_t d = 0; d < dim; ++d) {
        float largest = 0;
        for (int64_t i = d / 32 * 32; i < dim && i < d / 32 * 32 + 32; ++i) {
          largest = std::max(largest, std::abs(numbers[i]));
        }
        const double scale = kept.Scale(0, d);
        ASSERT_GE(scale * (1 + 0x1p-22), double{largest} / 127) << dim << " at " << d;
        ASSERT_LE(scale, double{largest} / 127 * (1 + 0x1p-7) * (1 + 0x1p-22));
        ASSERT_LE(std::abs(double{kept.Number(0, d)} - numbers[d]), scale / 2 * (1 + 0x1p-22))
            << dim << " at " << d << " of size " << size;
      }
    }
  }
}

// Where one number stands out, the numbers of other groups keep their accuracy.
TEST(KvFormat, GroupsHaveScalesOfTheirOwn) {
  std::vector<float> numbers(96, 0.01f);
  numbers[40] = 1000.0f;
  const Kept kept(numbers);
  EXPECT_NEAR(kept.Number(0, 0), 0.01f, 0.0001f);
  EXPECT_EQ(kept.Number(0, 41), 0.0f);
  EXPECT_NEAR(kept.Number(0, 40), 1000.0f, 4.0f);
  EXPECT_NEAR(kept.Number(0, 64), 0.01f, 0.0001f);
}

TEST(KvFormat, ZerosAndTheSmallestNumbersAreZero) {
  for (const float number : {0.0f, -0.0f, std::numeric_limits<float>::denorm_min(),
                             std::numeric_limits<float>::min(), 1e-37f}) {
    std::vector<float> numbers(34, number);
    const Kept kept(numbers);
    for (int64_t d = 0; d < 34; ++d) ASSERT_EQ(kept.Number(0, d), 0.0f) << number;
  }
}

TEST(KvFormat, WhatIsNotFiniteMakesItsGroupNotANumber) {
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    for (const int64_t place : {0, 31, 32, 65}) {
      std::vector<float> numbers(66, 0.5f);
      numbers[static_cast<size_t>(place)] = bad;
      const Kept kept(numbers);
      for (int64_t d = 0; d < 66; ++d) {
        ASSERT_EQ(std::isnan(kept.Number(0, d)), d / 32 == place / 32) << bad << " at " << place;
      }
    }
  }
}

}  // namespace
}  // namespace xcomposer::cpu
