#include "measure/machine_limits.h"

#include <cmath>
#include <cstring>
#include <vector>

#include "gmock/gmock.h"
#include "kernels/cpu/cpu_info.h"
#include "kernels/cpu/limits.h"

namespace xcomposer::measure {
namespace {

/// The chains of a round, from the operations that it is said to have.
int Chains(double operations, int per_vector) {
  return static_cast<int>(operations) / (2 * per_vector);
}

TEST(LimitLoops, TilesAreAsManyAsTheyCount) {
  if (cpu::BestIsa() < cpu::Isa::kAmx) GTEST_SKIP() << "this processor has no tiles";
  // Three products are one; a tile holds 256 sums and takes 32 products of 0.5 to each.
  const int chains = Chains(3 * cpu::FlopsPerRound(), 256 * 32);
  for (const int rounds : {0, 1, 7}) {
    float expected = 0;
    for (int i = 0; i < chains; ++i) expected += 2 * static_cast<float>(i + 16 * rounds);
    EXPECT_EQ(cpu::RunFmas(rounds), expected) << rounds << " rounds";
  }
}

TEST(LimitLoops, FmasAreAsManyAsTheyCount) {
  if (cpu::BestIsa() >= cpu::Isa::kAmx) GTEST_SKIP() << "this processor has tiles instead";
  const int lanes = cpu::BestIsa() >= cpu::Isa::kAvx512 ? 16
                    : cpu::BestIsa() >= cpu::Isa::kAvx2 ? 8
                                                        : 1;
  const int chains = Chains(cpu::FlopsPerRound(), lanes);
  const int looked_at = lanes > 1 ? 2 : 1;  // the first and the last lane
  for (const int64_t rounds : {0, 1, 7}) {
    double expected = 0;
    for (int i = 0; i < chains; ++i) {
      double sum = i;
      for (int64_t round = 0; round < rounds; ++round) sum = sum * 0.999 + 0.001;
      expected += looked_at * sum;
    }
    EXPECT_NEAR(cpu::RunFmas(rounds), expected, 1e-5 * expected) << rounds << " rounds";
  }
}

TEST(LimitLoops, DotsAreAsManyAsTheyCount) {
  const std::string name = cpu::IntegerDotName();
  if (name.empty()) GTEST_SKIP() << "this processor has no instruction for 8-bit products";
  const bool tiles = name == "tdpbsud";
  const int chains = Chains(cpu::OpsPerIntegerRound(), tiles                ? 256 * 64
                                                       : name == "vpdpbusd" ? 64
                                                                            : 32);
  const int64_t products = tiles ? 64 : 4;  // of a lane, 3 and -5
  for (const int64_t rounds : {0, 1, 5}) {
    int32_t expected = 0;
    for (int i = 0; i < chains; ++i) expected ^= static_cast<int32_t>(i - 15 * products * rounds);
    EXPECT_EQ(cpu::RunIntegerDots(rounds), 2 * static_cast<float>(expected)) << rounds;
  }
}

TEST(LimitLoops, BfloatDotsAreAsManyAsTheyCount) {
  const std::string name = cpu::BfloatDotName();
  if (name.empty()) GTEST_SKIP() << "this processor has no instruction for products of bfloat16";
  const bool tiles = name == "tdpbf16ps";
  const int chains = Chains(cpu::OpsPerBfloatRound(), tiles ? 256 * 32 : 32);
  const int halves = tiles ? 32 : 2;  // products of 0.5 and 1 that a lane takes
  for (const int rounds : {0, 1, 7}) {
    float expected = 0;
    for (int i = 0; i < chains; ++i) {
      expected += 2 * (static_cast<float>(i) + 0.5f * static_cast<float>(halves * rounds));
    }
    EXPECT_EQ(cpu::RunBfloatDots(rounds), expected) << rounds << " rounds";
  }
}

TEST(LimitLoops, ReadingSeesEveryLine) {
  constexpr size_t kLines = 64 * 5;
  std::vector<char> memory(kLines * 64);
  uint64_t expected = 0;
  for (uint64_t line = 0; line < kLines; ++line) {
    const uint64_t value = line * line + 1;
    std::memcpy(memory.data() + line * 64, &value, sizeof(value));
    expected += value;
  }
  for (const int streams : cpu::kReadStreams) {
    EXPECT_EQ(cpu::ReadAll(memory.data(), static_cast<int64_t>(memory.size()), streams), expected)
        << streams << " streams";
  }
}

TEST(CpuLimitsTest, EveryRateIsMeasured) {
  CpuLimits limits(2, int64_t{4} << 20);
  for (int i = 0; i < 2; ++i) {
    const CpuRates rates = limits.Measure();
    for (const double rate : {rates.read, rates.fma}) {
      EXPECT_TRUE(std::isfinite(rate));
      EXPECT_GT(rate, 1e6);  // no machine is so slow
    }
    EXPECT_EQ(rates.int8_dot > 0, !CpuLimits::Int8DotDetail().empty());
    EXPECT_EQ(rates.bf16_dot > 0, !CpuLimits::Bf16DotDetail().empty());
  }
  EXPECT_FALSE(CpuLimits::FmaDetail().empty());
}

}  // namespace
}  // namespace xcomposer::measure
