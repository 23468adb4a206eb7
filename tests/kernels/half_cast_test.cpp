#include "kernels/cpu/half_cast.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

#include "kernels/guarded.h"

namespace xcomposer::cpu {
namespace {

constexpr int64_t kAll = 1 << 16;

double OfBfloat16(uint16_t stored) {
  const uint32_t bits = uint32_t{stored} << 16;
  float value = 0;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

double OfHalf(uint16_t stored) {
  const double sign = (stored & 0x8000) != 0 ? -1 : 1;
  const int exponent = stored >> 10 & 0x1F;
  const int fraction = stored & 0x3FF;
  if (exponent == 0x1F) return fraction != 0 ? NAN : sign * INFINITY;
  if (exponent == 0) return sign * std::ldexp(fraction, -24);
  return sign * std::ldexp(0x400 + fraction, exponent - 25);
}

/// The nearest number that float16 has, by float64, which holds everything in between exactly.
double Nearest(double x) {
  if (!std::isfinite(x)) return x;
  if (std::abs(x) >= 65520) return std::copysign(INFINITY, x);  // the middle rounds away
  const double last_digit = std::ldexp(1.0, std::max(-24, std::ilogb(x == 0 ? 1 : x) - 10));
  return std::copysign(std::nearbyint(x / last_digit) * last_digit, x);
}

class HalfCastTest : public testing::TestWithParam<Isa> {
 protected:
  /// Converts and compares.
  void Expect(const std::vector<uint16_t>& numbers) {
    const auto count = static_cast<int64_t>(numbers.size());
    Guarded<uint16_t> in(count);
    Guarded<uint16_t> out(count);
    std::copy(numbers.begin(), numbers.end(), in.data());
    HalfLosses losses;
    HalvesOfBfloat16(in.data(), out.data(), count, losses, GetParam());
    HalfLosses expected;
    for (int64_t i = 0; i < count; ++i) {
      const double x = OfBfloat16(in[i]);
      const double y = Nearest(x);
      const double got = OfHalf(out[i]);
      ASSERT_TRUE(std::isnan(y) ? std::isnan(got) : got == y) << x << " became " << got;
      ASSERT_EQ(out[i] & 0x8000, in[i] & 0x8000) << x;
      expected.overflows += std::isfinite(x) && std::isinf(y);
      expected.underflows += x != 0 && y == 0;
    }
    EXPECT_EQ(losses.overflows, expected.overflows);
    EXPECT_EQ(losses.underflows, expected.underflows);
  }
};

std::vector<uint16_t> EveryNumber() {
  std::vector<uint16_t> numbers(kAll);
  std::iota(numbers.begin(), numbers.end(), uint16_t{0});
  return numbers;
}

TEST_P(HalfCastTest, EveryNumberInOrder) { Expect(EveryNumber()); }

TEST_P(HalfCastTest, EveryNumberBesideOthers) {
  std::vector<uint16_t> numbers = EveryNumber();
  Random random(1);
  for (size_t i = numbers.size() - 1; i > 0; --i) {
    std::swap(numbers[i], numbers[random.Bits() % (i + 1)]);
  }
  Expect(numbers);
}

TEST_P(HalfCastTest, AnyCount) {
  for (const int64_t count : {0, 1, 31, 32, 33, 64, 95, 257}) {
    std::vector<uint16_t> numbers(static_cast<size_t>(count), 0x3F81);  // 1.0078125
    Expect(numbers);
    if (count > 0) numbers.back() = 0x0001;
    Expect(numbers);
  }
}

TEST_P(HalfCastTest, MoreLossesThanSixteenBitsCount) {
  std::vector<uint16_t> numbers(16 * 70'000, 0x0001);
  Expect(numbers);
  std::fill(numbers.begin(), numbers.end(), 0x7F7F);
  Expect(numbers);
}

INSTANTIATE_TEST_SUITE_P(, HalfCastTest, testing::ValuesIn(RunnableIsas()),
                         [](const auto& info) { return std::string(ToString(info.param)); });

}  // namespace
}  // namespace xcomposer::cpu
