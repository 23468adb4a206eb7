#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/cuda/device_hopper.cuh"
#include "kernels_cuda/emulated_kernel.h"

// Layouts and products that only compute capability 9.0 has, as the PTX manual gives it; and
// planted faults, which the emulator must report, beside right kernels, which it must not.

namespace xcomposer::cuda {
namespace {

using ::testing::HasSubstr;

constexpr int kColumns = 64;
constexpr int64_t kShared = 64 * 1024;

std::string RunProduct(void (*kernel)(Params), int threads = kWarpgroup) {
  Memory out(64 * kColumns, false);
  return RunKernel(kernel, threads, {nullptr, out.data(), 0}, false, 1, kShared);
}

// --- layouts
// -------------------------------------------------------------------------------------

// "Matrix Descriptor Format": bits 13-0 the start address, 29-16 the leading dimension byte offset,
// 45-32 the stride dimension byte offset, each encoded as (x & 0x3FFFF) >> 4; 51-49 the base
// offset; 63-62 the swizzle, 1 for 128 bytes.
TEST(EmulatorHopper, DescriptorsAreTheManuals) {
  const uint64_t descriptor = PanelDescriptor<128>(0x12400);
  EXPECT_EQ(descriptor & 0x3FFF, (0x12400 & 0x3FFFF) >> 4);
  EXPECT_EQ(descriptor >> 16 & 0x3FFF, 128 * 128 / 16);
  EXPECT_EQ(descriptor >> 32 & 0x3FFF, 8 * 128 / 16);
  EXPECT_EQ(descriptor >> 49 & 7, 0);
  EXPECT_EQ(descriptor >> 62, 1);
  EXPECT_EQ(PanelDescriptor<64>(0) >> 16 & 0x3FFF, 64 * 128 / 16);
}

/// Swizzle<3,4,3> of "Canonical Layouts": three bits from bit 4 on, exclusive or-ed with those from
/// bit 7 on.
uint32_t Swizzle343(uint32_t byte) { return byte ^ (byte & 0x7 << 7) >> 3; }

// "Canonical Layouts", T = 8 numbers of 16 bits, distances in numbers:
//   K-major:  Swizzle<3,4,3> o ((8,m),(T,2k)):((8T,SBO),(1,T))
//   MN-major: Swizzle<3,4,3> o ((T,8,m),(8,k)):((1,T,LBO),(8T,SBO))
TEST(EmulatorHopper, MatricesLieWhereTheManualSays) {
  constexpr uint32_t kStart = 0x2000;
  constexpr uint32_t kLeading = 0x4000;
  constexpr uint32_t kStride = 0x400;
  const uint64_t descriptor = uint64_t{1} << 62 | uint64_t{kStride / 16} << 32 |
                              uint64_t{kLeading / 16} << 16 | kStart / 16;
  const emulator::MatrixLayout layout(descriptor, {});
  for (uint32_t mn = 0; mn < 128; ++mn) {
    for (uint32_t k = 0; k < 16; k += 8) {
      const uint32_t number = mn % 8 * 64 + mn / 8 * (kStride / 2) + k / 8 * 8;
      EXPECT_EQ(layout.AlongK(static_cast<int>(mn), static_cast<int>(k / 8)),
                Swizzle343(kStart + 2 * number));
    }
  }
  for (uint32_t k = 0; k < 16; ++k) {
    for (uint32_t mn = 0; mn < 128; mn += 8) {
      const uint32_t number =
          mn / 8 % 8 * 8 + mn / 64 * (kLeading / 2) + k % 8 * 64 + k / 8 * (kStride / 2);
      EXPECT_EQ(layout.AlongRows(static_cast<int>(k), static_cast<int>(mn / 8)),
                Swizzle343(kStart + 2 * number));
    }
  }
}

TEST(EmulatorHopper, PanelsAreTheLayoutsOfTheirDescriptors) {
  constexpr uint32_t kStart = 0x2000;
  const uint64_t descriptor = PanelDescriptor<64>(kStart);
  for (int row = 0; row < 64; ++row) {
    for (int part = 0; part < 16; ++part) {
      const auto byte = kStart + 2 * static_cast<uint32_t>(PanelIndex<64>(row, part));
      const emulator::MatrixLayout columns(
          descriptor + static_cast<uint64_t>(ColumnStep<64>(part / 2)), {});
      EXPECT_EQ(columns.AlongK(row, part % 2), byte);
      const emulator::MatrixLayout rows(descriptor + static_cast<uint64_t>(RowStep(row / 16)), {});
      EXPECT_EQ(rows.AlongRows(row % 16, part), byte);
    }
  }
}

TEST(EmulatorHopper, DescriptorsThatTheManualForbidsAreFound) {
  const auto said = [](uint64_t descriptor) -> std::string {
    try {
      const emulator::MatrixLayout layout(descriptor, {});
    } catch (const emulator::Fault& fault) {
      return fault.what();
    }
    return "";
  };
  EXPECT_EQ(said(PanelDescriptor<64>(0x400)), "");
  EXPECT_EQ(said(PanelDescriptor<64>(0x460)), "");
  EXPECT_THAT(said(PanelDescriptor<64>(0x410 + 0x80)), HasSubstr("1,024 bytes"));
  EXPECT_THAT(said(PanelDescriptor<64>(0x400) | uint64_t{1} << 49), HasSubstr("1,024 bytes"));
  EXPECT_THAT(said(PanelDescriptor<64>(0x400) | uint64_t{2} << 62), HasSubstr("swizzle"));
}

// --- products
// ------------------------------------------------------------------------------------

float NumberA(int row, int k) { return static_cast<float>((row * 7 + k * 3) % 17 - 8); }
float NumberB(int k, int column) { return static_cast<float>((k * 5 + column * 11) % 13 - 6); }

constexpr int kInner = 128;  // two panels

/// Where a kernel goes wrong.
enum class Slip {
  kNone,
  kNoAlignment,
  kNoProductFence,
  kOneWarpDoesNotMeet,
  kNoWarpgroupFence,
  kReadsSumsTooEarly,
  kChangesSumsTooEarly,
  kChangesFactorsTooEarly,
  kOverwritesTooEarly,
  kOverwritesForOthers,
  kNeverWaits,
  kOtherDescriptor,
  kOneWarpLess,
};

/// out (64 x 64) = a (64 x 128) b (128 x 64): a and b from shared memory, the rows of b along K or
/// (kRows) its columns; with a in registers in the latter case.
template <typename T, bool kRows, Slip kSlip>
void Product(Params p) {
  SharedArena arena;
  if (kSlip != Slip::kNoAlignment) arena.Align(1024);
  const Shared<T> a = arena.Take<T>(64 * kInner);
  const Shared<T> b = arena.Take<T>(kColumns * kInner);
  const int thread = ThreadIndex();
  for (int i = thread; i < 64 * kInner; i += BlockThreads()) {
    const int row = i / kInner;
    const int k = i % kInner;
    a[PanelIndex<64>(row, k / 8) + k % 8] = FromFloat<T>(NumberA(row, k));
    if (kRows) {
      const int column = i / kInner;
      b[PanelIndex<kInner>(k, column / 8) + column % 8] = FromFloat<T>(NumberB(k, column));
    } else {
      b[PanelIndex<kColumns>(row, k / 8) + k % 8] = FromFloat<T>(NumberB(k, row));
    }
  }
  if (kSlip != Slip::kNoProductFence) ProductFence();
  if (kSlip != Slip::kOneWarpDoesNotMeet) {
    NamedBarrierSync(1, BlockThreads());
  } else if (thread < 96) {
    NamedBarrierSync(1, 96);
  }
  if (kSlip == Slip::kOneWarpLess && thread >= 96) return;
  uint64_t a_descriptor = PanelDescriptor<64>(SharedAddress(a, 0));
  if (kSlip == Slip::kOtherDescriptor && thread == 5) a_descriptor += 2;
  const uint64_t b_descriptor = PanelDescriptor < kRows ? kInner : kColumns > (SharedAddress(b, 0));
  float d[kColumns / 2];
  uint32_t factors[kInner / 16][4];
  for (float& x : d) x = 0.0f;
  for (int s = 0; kRows && s < kInner / 16; ++s) {
    for (int i = 0; i < 4; ++i) {
      const int row = thread / 32 * 16 + fragment::RowOfA(thread % 32, 2 * i);
      const int k = 16 * s + fragment::ColumnOfA(thread % 32, 2 * i);
      factors[s][i] = Pack<T>(NumberA(row, k), NumberA(row, k + 1));
    }
  }
  if (kSlip != Slip::kNoWarpgroupFence) WarpgroupFence();
  if constexpr (kRows) {
    for (int s = 0; s < kInner / 16; ++s) {
      WarpgroupMultiplyRows<T>(d, factors[s], b_descriptor + static_cast<uint64_t>(RowStep(s)));
    }
  } else {
    for (int s = 0; s < kInner / 16; ++s) {
      const auto a_step = a_descriptor + static_cast<uint64_t>(ColumnStep<64>(s));
      const auto b_step = b_descriptor + static_cast<uint64_t>(ColumnStep<kColumns>(s));
      if (s == 0) {
        WarpgroupMultiply<T, false>(d, a_step, b_step);
      } else {
        WarpgroupMultiply<T, true>(d, a_step, b_step);
      }
    }
  }
  CommitProducts();
  if (kSlip == Slip::kReadsSumsTooEarly) Store(p.out + thread, d[0]);
  if (kSlip == Slip::kChangesSumsTooEarly) d[3] = 2.0f;
  if (kSlip == Slip::kChangesFactorsTooEarly) factors[1][2] = 0;
  if (kSlip == Slip::kOverwritesTooEarly && thread == 0) b[0] = FromFloat<T>(0.0f);
  if (kSlip == Slip::kNeverWaits) return;
  WaitProducts<0>(d);
  if (kSlip == Slip::kOverwritesForOthers && thread == 64) b[0] = FromFloat<T>(0.0f);
  if (kSlip == Slip::kReadsSumsTooEarly) return;
  for (int i = 0; i < kColumns / 2; ++i) {
    const int row = thread / 32 * 16 + thread % 32 / 4 + (i & 2) * 4;
    const int column = i / 4 * 8 + thread % 4 * 2 + (i & 1);
    Store(p.out + row * kColumns + column, d[i]);
  }
}

// "Matrix Fragments for wgmma.mma_async.m64nNk16": as mma.m16n8k16 has them, 16 rows to each warp.
template <typename T, bool kRows>
void ExpectProducts() {
  Memory out(64 * kColumns, false);
  ASSERT_EQ(RunKernel(Product<T, kRows, Slip::kNone>, kWarpgroup, {nullptr, out.data(), 0}, false,
                      1, kShared),
            "");
  for (int row = 0; row < 64; ++row) {
    for (int column = 0; column < kColumns; ++column) {
      float sum = 0;  // of small whole numbers
      for (int k = 0; k < kInner; ++k) sum += NumberA(row, k) * NumberB(k, column);
      ASSERT_EQ(out.data()[row * kColumns + column], sum) << row << " " << column;
    }
  }
}

TEST(EmulatorHopper, ProductsAreRight) {
  ExpectProducts<Half, false>();
  ExpectProducts<Half, true>();
  ExpectProducts<BFloat16, false>();
  ExpectProducts<BFloat16, true>();
}

TEST(EmulatorHopper, MisusedProductsAreFound) {
  EXPECT_THAT(RunProduct(Product<Half, false, Slip::kNoAlignment>), HasSubstr("1,024 bytes"));
  EXPECT_THAT(RunProduct(Product<Half, false, Slip::kNoProductFence>),
              HasSubstr("no ProductFence"));
  EXPECT_THAT(RunProduct(Product<Half, false, Slip::kOneWarpDoesNotMeet>),
              HasSubstr("no barrier orders them"));
  EXPECT_THAT(RunProduct(Product<Half, false, Slip::kNoWarpgroupFence>),
              HasSubstr("without WarpgroupFence"));
  EXPECT_THAT(RunProduct(Product<Half, false, Slip::kChangesSumsTooEarly>),
              HasSubstr("sums changed"));
  EXPECT_THAT(RunProduct(Product<Half, true, Slip::kChangesFactorsTooEarly>),
              HasSubstr("registers changed"));
  EXPECT_THAT(RunProduct(Product<Half, false, Slip::kOverwritesTooEarly>),
              HasSubstr("may still read"));
  EXPECT_THAT(RunProduct(Product<Half, false, Slip::kOverwritesForOthers>),
              HasSubstr("may still read"));
  EXPECT_THAT(RunProduct(Product<Half, false, Slip::kNeverWaits>),
              HasSubstr("before a product was waited for"));
  EXPECT_THAT(RunProduct(Product<Half, false, Slip::kOtherDescriptor>), HasSubstr("differ"));
  EXPECT_THAT(RunProduct(Product<Half, false, Slip::kOneWarpLess>), HasSubstr("divergent"));
}

TEST(EmulatorHopper, SumsAreNoNumbersBeforeTheyAreWaitedFor) {
  Memory out(64 * kColumns, false);
  ASSERT_EQ(RunKernel(Product<Half, false, Slip::kReadsSumsTooEarly>, kWarpgroup,
                      {nullptr, out.data(), 0}, false, 1, kShared),
            "");
  for (int i = 0; i < kWarpgroup; ++i) EXPECT_TRUE(std::isnan(out.data()[i]));
}

}  // namespace
}  // namespace xcomposer::cuda
