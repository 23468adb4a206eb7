#include "engine/counter_random.h"

#include <gtest/gtest.h>

#include <array>

namespace xcomposer {
namespace {

using Words = std::array<uint32_t, 4>;

// Known answers published with the generator.
TEST(Philox, KnownAnswers) {
  EXPECT_EQ(Philox({0, 0, 0, 0}, {0, 0}), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  const uint32_t ones = 0xffffffff;
  EXPECT_EQ(Philox({ones, ones, ones, ones}, {ones, ones}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(UniformAt, IsUniformAndDependsOnAllBitsOfSeedAndStep) {
  double sum = 0;
  for (uint64_t step = 0; step < 4096; ++step) {
    const double value = UniformAt(7, step);
    ASSERT_GE(value, 0.0);
    ASSERT_LT(value, 1.0);
    sum += value;
  }
  EXPECT_NEAR(sum / 4096, 0.5, 0.02);
  EXPECT_NE(UniformAt(7, 0), UniformAt(8, 0));
  EXPECT_NE(UniformAt(7, 0), UniformAt(7 + (uint64_t{1} << 32), 0));
  EXPECT_NE(UniformAt(7, 1), UniformAt(7, 1 + (uint64_t{1} << 32)));
}

}  // namespace
}  // namespace xcomposer
