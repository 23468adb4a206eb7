#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/cuda/launch.cuh"
#include "support/emulator/device.h"
#include "support/emulator/runtime.h"

// Positive controls: kernels with one planted fault each, which the emulator must report, beside
// the right ones, which it must not; and the fragments of tensor cores as the PTX manual gives
// them.

namespace xcomposer::cuda {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr emulator::Schedule kForward{emulator::Schedule::Order::kForward, 0};

struct Params {
  const float* in = nullptr;
  float* out = nullptr;
  int count = 0;
};

class Memory {
 public:
  Memory(int count, bool constant)
      : data_(static_cast<float*>(emulator::Machine::Instance().global().Allocate(
            static_cast<size_t>(count) * sizeof(float), constant))) {}
  ~Memory() { emulator::Machine::Instance().global().Free(data_); }
  float* data() { return data_; }

 private:
  float* data_;
};

std::string RunKernel(void (*kernel)(Params), int threads, Params params, bool dependent = false,
                      int64_t blocks = 1) {
  emulator::SetSchedule(kForward);
  const LaunchShape shape{.grid_x = blocks, .threads = threads, .shared_bytes = 4096};
  static_cast<void>(Launch(kernel, shape, params, {.programmatic_launch = dependent}));
  return emulator::TakeFault();
}

std::string RunOnMemory(void (*kernel)(Params), int threads, bool dependent = false) {
  Memory in(threads, false);
  Memory out(threads, false);
  for (int i = 0; i < threads; ++i) in.data()[i] = static_cast<float>(i);
  return RunKernel(kernel, threads, {in.data(), out.data(), threads}, dependent);
}

template <bool kBarrier>
void Reverse(Params p) {
  GridDependencyWait();
  SharedArena arena;
  const Shared<float> row = arena.Take<float>(p.count);
  row[ThreadIndex()] = Load(p.in + ThreadIndex());
  if (kBarrier) SyncThreads();
  Store(p.out + ThreadIndex(), static_cast<float>(row[p.count - 1 - ThreadIndex()]));
}

TEST(Emulator, RightKernelRuns) { EXPECT_EQ(RunOnMemory(Reverse<true>, 96), ""); }

TEST(Emulator, MissingBarrierIsFound) {
  EXPECT_THAT(RunOnMemory(Reverse<false>, 96), HasSubstr("nobody wrote"));
}

void ReadsOtherWarp(Params p) {
  SharedArena arena;
  const Shared<float> row = arena.Take<float>(p.count);
  row[ThreadIndex()] = 1.0f;
  if (ThreadIndex() >= 32) Store(p.out + ThreadIndex(), static_cast<float>(row[0]));
}

TEST(Emulator, RaceIsFoundAlthoughTheOrderHappenedToBeRight) {
  EXPECT_THAT(RunOnMemory(ReadsOtherWarp, 64),
              AllOf(HasSubstr("race in shared memory"), HasSubstr("emulator_test.cpp")));
}

template <bool kSync>
void WarpNeighbour(Params p) {
  SharedArena arena;
  const Shared<float> row = arena.Take<float>(p.count);
  row[ThreadIndex()] = 1.0f;
  if (kSync) SyncWarp();
  Store(p.out + ThreadIndex(), static_cast<float>(row[ThreadIndex() ^ 1]));
}

TEST(Emulator, WarpBarrierOrdersItsWarp) {
  EXPECT_EQ(RunOnMemory(WarpNeighbour<true>, 64), "");
  EXPECT_THAT(RunOnMemory(WarpNeighbour<false>, 64), HasSubstr("nobody wrote"));
}

template <int kPast>
void WriteAll(Params p) {
  Store(p.out + ThreadIndex() + kPast, 1.0f);
}

TEST(Emulator, GlobalWriteOutOfBoundsIsFound) {
  EXPECT_EQ(RunOnMemory(WriteAll<0>, 32), "");
  EXPECT_THAT(RunOnMemory(WriteAll<1>, 32), HasSubstr("out of bounds: global write"));
  EXPECT_THAT(RunOnMemory(WriteAll<-1>, 32), HasSubstr("out of bounds: global write"));
}

template <bool kMask>
void MaskedTail(Params p) {
  for (int i = ThreadIndex(); i < (kMask ? p.count : 64); i += BlockThreads()) {
    Store(p.out + i, Load(p.in + i));
  }
}

TEST(Emulator, MissingTailMaskIsFound) {
  Memory in(61, false);
  Memory out(61, false);
  EXPECT_EQ(RunKernel(MaskedTail<true>, 32, {in.data(), out.data(), 61}), "");
  EXPECT_THAT(RunKernel(MaskedTail<false>, 32, {in.data(), out.data(), 61}),
              HasSubstr("out of bounds: global read"));
}

void NeverEnds(Params p) {
  while (Load(p.in) < 1.0f) {
  }
}

TEST(Emulator, EndlessKernelIsFound) {
  EXPECT_THAT(RunOnMemory(NeverEnds, 32), HasSubstr("does not end"));
}

template <int kPast>
void SharedPast(Params p) {
  SharedArena arena;
  const Shared<float> row = arena.Take<float>(p.count);
  row[ThreadIndex() + kPast] = 0.0f;
}

TEST(Emulator, SharedOutOfBoundsIsFound) {
  EXPECT_EQ(RunOnMemory(SharedPast<0>, 32), "");
  EXPECT_THAT(RunOnMemory(SharedPast<1>, 32), HasSubstr("out of bounds: index 32"));
  EXPECT_THAT(RunOnMemory(SharedPast<-1>, 32), HasSubstr("out of bounds: index -1"));
}

void LargeShared(Params) {
  SharedArena arena;
  arena.Take<float>(1025);
}

TEST(Emulator, TooLittleSharedMemoryIsFound) {
  EXPECT_THAT(RunOnMemory(LargeShared, 32), HasSubstr("too little shared memory"));
}

void DivergentBarrier(Params) {
  if (ThreadIndex() < 40) SyncThreads();
}
void TwoBarriers(Params) {
  if (ThreadIndex() < 40) {
    SyncThreads();
  } else {
    SyncThreads();
  }
}
void DivergentShuffle(Params p) {
  if (Lane() < 31) Store(p.out + ThreadIndex(), ShuffleXor(1.0f, 1));
}

TEST(Emulator, DivergentBarrierIsFound) {
  EXPECT_THAT(RunOnMemory(DivergentBarrier, 64), HasSubstr("divergent barrier"));
  EXPECT_THAT(RunOnMemory(TwoBarriers, 64), HasSubstr("divergent barrier"));
  EXPECT_THAT(RunOnMemory(DivergentShuffle, 64), HasSubstr("divergent barrier"));
}

void SameTarget(Params p) { Store(p.out, static_cast<float>(ThreadIndex())); }

TEST(Emulator, TwoThreadsWritingOnePlaceAreFound) {
  EXPECT_THAT(RunOnMemory(SameTarget, 32), HasSubstr("race in global memory"));
}

template <bool kBarrier>
void OverwritesWhatOthersRead(Params p) {
  const float x = Load(p.in);
  if (kBarrier) SyncThreads();
  if (ThreadIndex() == 0) Store(const_cast<float*>(p.in), x + 1.0f);
}

TEST(Emulator, WriteAfterReadInGlobalMemoryIsFound) {
  EXPECT_EQ(RunOnMemory(OverwritesWhatOthersRead<true>, 64), "");
  EXPECT_THAT(RunOnMemory(OverwritesWhatOthersRead<false>, 64), HasSubstr("race in global memory"));
}

template <bool kWait, bool kEarly>
void Dependent(Params p) {
  float x = kEarly ? Load(p.in + ThreadIndex()) : 0.0f;
  if (kWait) GridDependencyWait();
  if (!kEarly) x = Load(p.in + ThreadIndex());
  if (kWait) Store(p.out + ThreadIndex(), x);
}

TEST(Emulator, ReadingTooEarlyIsFound) {
  EXPECT_EQ(RunOnMemory(Dependent<true, false>, 32, true), "");
  EXPECT_THAT(RunOnMemory(Dependent<true, true>, 32, true), HasSubstr("before GridDependencyWait"));
  EXPECT_EQ(RunOnMemory(Dependent<true, true>, 32, false), "");
  Memory weights(32, true);
  Memory out(32, false);
  EXPECT_EQ(RunKernel(Dependent<true, true>, 32, {weights.data(), out.data(), 32}, true), "");
  EXPECT_THAT(RunKernel(Dependent<false, true>, 32, {weights.data(), out.data(), 32}, true),
              HasSubstr("ended without GridDependencyWait"));
}

void ReadsATable(Params p) {
  const float x = LoadSettled(p.in + ThreadIndex());
  GridDependencyWait();
  Store(p.out + ThreadIndex(), x);
}

TEST(Emulator, WhatAKernelWroteIsNotSettled) {
  Memory table(32, false);
  Memory out(32, false);
  EXPECT_EQ(RunKernel(ReadsATable, 32, {table.data(), out.data(), 32}, true), "");
  EXPECT_THAT(RunKernel(ReadsATable, 32, {out.data(), table.data(), 32}, true),
              HasSubstr("read as settled"));
}

void Prefetches(Params p) {
  PrefetchL2(p.in + p.count);
  GridDependencyWait();
}

TEST(Emulator, PrefetchingOutsideOfMemoryIsFound) {
  Memory in(32, false);
  EXPECT_EQ(RunKernel(Prefetches, 32, {in.data(), nullptr, 31}, true), "");
  EXPECT_THAT(RunKernel(Prefetches, 32, {in.data(), nullptr, 32}, true),
              HasSubstr("out of bounds"));
}

template <bool kWait, bool kBarrier>
void AsyncCopy(Params p) {
  SharedArena arena;
  const Shared<float> row = arena.Take<float>(4 * p.count);
  CopyAsync16(row, 4 * ThreadIndex(), p.in + ThreadIndex() / 4 * 4, true);
  CommitCopies();
  if (kWait) WaitCopies<0>();
  if (kBarrier) SyncThreads();
  Store(p.out + ThreadIndex(), static_cast<float>(row[4 * (p.count - 1 - ThreadIndex())]));
}

TEST(Emulator, AsyncCopyNeedsWaitAndBarrier) {
  EXPECT_EQ(RunOnMemory(AsyncCopy<true, true>, 64), "");
  EXPECT_THAT(RunOnMemory(AsyncCopy<false, true>, 64), HasSubstr("not yet waited for"));
  EXPECT_NE(RunOnMemory(AsyncCopy<true, false>, 64), "");
}

template <bool kBarrier>
void AnnouncesOthersWrites(Params p) {
  int* counter = reinterpret_cast<int*>(const_cast<float*>(p.in));
  Store(p.out + ThreadIndex(), 1.0f);
  ThreadFence();
  if (kBarrier) SyncThreads();
  if (ThreadIndex() == 0) AtomicAdd(counter, 1);
}

TEST(Emulator, AnnouncingOthersWritesNeedsABarrier) {
  EXPECT_EQ(RunOnMemory(AnnouncesOthersWrites<true>, 64), "");
  EXPECT_THAT(RunOnMemory(AnnouncesOthersWrites<false>, 64), HasSubstr("without a barrier"));
}

template <bool kAtomic>
void CountsThreads(Params p) {
  auto* counter = reinterpret_cast<uint64_t*>(p.out);
  if (kAtomic) {
    AtomicCount(counter, uint64_t{1} << 32);
  } else {
    Store(counter, Load(counter) + (uint64_t{1} << 32));
  }
}

TEST(Emulator, CountersNeedAtomicOperations) {
  Memory counter(2, false);
  const uint64_t none = 0;
  std::memcpy(counter.data(), &none, 8);
  EXPECT_EQ(RunKernel(CountsThreads<true>, 40, {nullptr, counter.data(), 2}, false, 3), "");
  uint64_t counted = 0;
  std::memcpy(&counted, counter.data(), 8);
  EXPECT_EQ(counted, uint64_t{120} << 32);
  EXPECT_THAT(RunKernel(CountsThreads<false>, 40, {nullptr, counter.data(), 2}),
              HasSubstr("race in global memory"));
}

template <bool kRelease, bool kAcquire>
void LastBlockSums(Params p) {
  // in: one counter, as an int; out: a number of each block, then the sum.
  int* counter = reinterpret_cast<int*>(const_cast<float*>(p.in));
  Store(p.out + BlockX(), 1.0f);
  if (kRelease) ThreadFence();
  if (AtomicAdd(counter, 1) != GridX() - 1) return;
  if (kAcquire) ThreadFence();
  float sum = 0;
  for (int b = 0; b < GridX(); ++b) sum += Load(p.out + b);
  Store(p.out + GridX(), sum);
}

TEST(Emulator, LastBlockNeedsFencesOnBothSides) {
  const auto run = [](void (*kernel)(Params)) {
    Memory counter(1, false);
    Memory out(4, false);
    counter.data()[0] = 0.0f;
    const std::string fault = RunKernel(kernel, 1, {counter.data(), out.data(), 1}, false, 3);
    EXPECT_TRUE(!fault.empty() || out.data()[3] == 3.0f);
    return fault;
  };
  EXPECT_EQ(run(LastBlockSums<true, true>), "");
  EXPECT_THAT(run(LastBlockSums<false, true>), HasSubstr("without a fence"));
  EXPECT_THAT(run(LastBlockSums<true, false>), HasSubstr("race in global memory"));
}

template <bool kOrdered>
void BlocksCountThemselves(Params p) {
  // in: one counter, as an int; out: a number of each of two threads of each block, then the sum.
  int* counter = reinterpret_cast<int*>(const_cast<float*>(p.in));
  Store(p.out + 2 * BlockX() + ThreadIndex(), 1.0f);
  SyncThreads();
  if (ThreadIndex() > 0) return;
  const int before = kOrdered ? AtomicAddOrdered(counter, 1) : AtomicAdd(counter, 1);
  if (before != GridX() - 1) return;
  float sum = 0;
  for (int i = 0; i < 2 * GridX(); ++i) sum += Load(p.out + i);
  Store(p.out + 2 * GridX(), sum);
}

TEST(Emulator, OrderedCountingIsEnough) {
  const auto run = [](void (*kernel)(Params)) {
    Memory counter(1, false);
    Memory out(7, false);
    counter.data()[0] = 0.0f;
    const std::string fault = RunKernel(kernel, 2, {counter.data(), out.data(), 1}, false, 3);
    EXPECT_TRUE(!fault.empty() || out.data()[6] == 6.0f);
    return fault;
  };
  EXPECT_EQ(run(BlocksCountThemselves<true>), "");
  EXPECT_THAT(run(BlocksCountThemselves<false>), HasSubstr("without a fence"));
}

// --- tensor cores
// ------------------------------------------------------------------------------------

// The PTX manual on mma.m16n8k16 with .f16 and .bf16: groupID = laneid >> 2, threadID_in_group =
// laneid % 4.
//   A: row = groupID for ai where 0 <= i < 2 || 4 <= i < 6, otherwise groupID + 8;
//      col = threadID_in_group * 2 + (i & 0x1), + 8 for i >= 4
//   B: row = threadID_in_group * 2 + (i & 0x1), + 8 for i >= 2; col = groupID
//   C: row = groupID for i < 2, otherwise groupID + 8; col = threadID_in_group * 2 + (i & 0x1)
struct Place {
  int row;
  int column;
};
Place ManualA(int lane, int i) {
  const int group = lane >> 2;
  return {(i >= 0 && i < 2) || (i >= 4 && i < 6) ? group : group + 8,
          lane % 4 * 2 + (i & 1) + (i >= 4 ? 8 : 0)};
}
Place ManualB(int lane, int i) { return {lane % 4 * 2 + (i & 1) + (i >= 2 ? 8 : 0), lane >> 2}; }
Place ManualC(int lane, int i) {
  return {i < 2 ? lane >> 2 : (lane >> 2) + 8, lane % 4 * 2 + (i & 1)};
}

// a[row][k] = row + 16 k, b[k][column] = 1 where k == column + shift: exact in float16.
template <typename T, int kShift, int kWrongIndex>
void MatrixProduct(Params p) {
  const int lane = Lane();
  uint32_t a[4];
  uint32_t b[2];
  for (int i = 0; i < 8; i += 2) {
    const Place first = ManualA(lane, i);
    const Place second = ManualA(lane, i + 1);
    a[i / 2] = Pack<T>(static_cast<float>(first.row + 16 * first.column),
                       static_cast<float>(second.row + 16 * second.column));
  }
  for (int i = 0; i < 4; i += 2) {
    const Place first = ManualB(lane, i);
    const Place second = ManualB(lane, i + 1);
    b[i / 2] = Pack<T>(first.row == first.column + kShift ? 1.0f : 0.0f,
                       second.row == second.column + kShift ? 1.0f : 0.0f);
  }
  float d[4] = {0.0f, 0.0f, 0.0f, 0.0f};
  MultiplyAdd<T>(d, a, b[kWrongIndex], b[1 - kWrongIndex]);
  for (int i = 0; i < 4; ++i) {
    const Place place = ManualC(lane, i);
    Store(p.out + place.row * 8 + place.column, d[i]);
  }
}

template <typename T, int kShift, int kWrongIndex>
int WrongProducts() {
  Memory out(128, false);
  EXPECT_EQ(RunKernel(MatrixProduct<T, kShift, kWrongIndex>, 32, {nullptr, out.data(), 0}), "");
  int wrong = 0;
  for (int row = 0; row < 16; ++row) {
    for (int column = 0; column < 8; ++column) {
      const auto expected = static_cast<float>(row + 16 * (column + kShift));
      wrong += out.data()[row * 8 + column] == expected ? 0 : 1;
    }
  }
  return wrong;
}

TEST(Emulator, MatrixFragmentsAreTheManuals) {
  EXPECT_EQ((WrongProducts<Half, 0, 0>()), 0);
  EXPECT_EQ((WrongProducts<Half, 8, 0>()), 0);
  EXPECT_EQ((WrongProducts<Half, 3, 0>()), 0);
  EXPECT_EQ((WrongProducts<BFloat16, 0, 0>()), 0);
  EXPECT_EQ((WrongProducts<BFloat16, 8, 0>()), 0);
}

TEST(Emulator, WrongFragmentIndexIsFound) { EXPECT_GT((WrongProducts<Half, 0, 1>()), 100); }

// ldmatrix: "each thread receives a row's pair of elements ... thread i holds row i / 4, elements
// 2 (i % 4) and 2 (i % 4) + 1"; with .trans the matrix is loaded in column-major format.
template <bool kTransposed>
void FourMatrices(Params p) {
  SharedArena arena;
  const Shared<Half> tile = arena.Take<Half>(4 * 64);
  for (int i = Lane(); i < 4 * 64; i += 32) tile[i] = FromFloat<Half>(static_cast<float>(i));
  SyncWarp();
  uint32_t out[4];
  if (kTransposed) {
    LoadMatricesTransposed(out, tile, 8 * Lane());
  } else {
    LoadMatrices(out, tile, 8 * Lane());
  }
  for (int m = 0; m < 4; ++m) {
    float low;
    float high;
    Unpack<Half>(out[m], low, high);
    Store(p.out + (m * 32 + Lane()) * 2, low);
    Store(p.out + (m * 32 + Lane()) * 2 + 1, high);
  }
}

TEST(Emulator, LoadedMatricesAreTheManuals) {
  Memory out(256, false);
  EXPECT_EQ(RunKernel(FourMatrices<false>, 32, {nullptr, out.data(), 0}), "");
  for (int m = 0; m < 4; ++m) {
    for (int lane = 0; lane < 32; ++lane) {
      for (int i = 0; i < 2; ++i) {
        const int element = m * 64 + lane / 4 * 8 + lane % 4 * 2 + i;
        EXPECT_EQ(out.data()[(m * 32 + lane) * 2 + i], static_cast<float>(element));
      }
    }
  }
  EXPECT_EQ(RunKernel(FourMatrices<true>, 32, {nullptr, out.data(), 0}), "");
  for (int m = 0; m < 4; ++m) {
    for (int lane = 0; lane < 32; ++lane) {
      for (int i = 0; i < 2; ++i) {
        const int element = m * 64 + (lane % 4 * 2 + i) * 8 + lane / 4;
        EXPECT_EQ(out.data()[(m * 32 + lane) * 2 + i], static_cast<float>(element));
      }
    }
  }
}

// --- numbers
// -----------------------------------------------------------------------------------------

TEST(Emulator, StoredNumbersConvertBothWays) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const Half half{static_cast<uint16_t>(bits)};
    const BFloat16 bfloat{static_cast<uint16_t>(bits)};
    const float h = Widen(half);
    const float b = Widen(bfloat);
    EXPECT_TRUE(h != h || Narrow<Half>(h).bits == half.bits) << bits;
    EXPECT_TRUE(b != b || Narrow<BFloat16>(b).bits == bfloat.bits) << bits;
  }
  EXPECT_EQ(Narrow<Half>(1.0f).bits, 0x3C00);
  EXPECT_EQ(Narrow<Half>(65504.0f).bits, 0x7BFF);
  EXPECT_EQ(Narrow<Half>(65519.0f).bits, 0x7BFF);
  EXPECT_EQ(Narrow<Half>(65520.0f).bits, 0x7C00);
  EXPECT_EQ(Narrow<Half>(0x1p-24f).bits, 1);
  EXPECT_EQ(Narrow<Half>(0x1p-25f).bits, 0);    // a tie goes to even
  EXPECT_EQ(Narrow<Half>(0x1.8p-24f).bits, 2);  // likewise
  EXPECT_EQ(Narrow<Half>(1.0f + 0x1p-11f).bits, 0x3C00);
  EXPECT_EQ(Narrow<Half>(1.0f + 0x1.8p-10f).bits, 0x3C02);
  EXPECT_EQ(Narrow<BFloat16>(1.0f + 0x1p-8f).bits, 0x3F80);
  EXPECT_EQ(Narrow<BFloat16>(1.0f + 0x1.8p-7f).bits, 0x3F82);
}

}  // namespace
}  // namespace xcomposer::cuda
