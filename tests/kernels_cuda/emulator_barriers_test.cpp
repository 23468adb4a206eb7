#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/cuda/device_hopper.cuh"
#include "kernels_cuda/emulated_kernel.h"

// Barriers in shared memory, named barriers, and the copies that they wait for, of compute
// capability 9.0 as the PTX manual gives them; and planted faults, which the emulator must report,
// beside right kernels, which it must not.

namespace xcomposer::cuda {
namespace {

using ::testing::HasSubstr;

enum class Ring {
  kRight,
  kNoSync,
  kNoFull,
  kNoEmpty,
  kWrongParity,
  kTooFewArrivals,
  kOtherLanes,
};

/// The second warp takes four numbers that the first one gives through two places.
template <Ring kRing>
void TwoWarps(Params p) {
  SharedArena arena;
  const Shared<float> places = arena.Take<float>(2 * 32);
  const Shared<uint64_t> full = arena.Take<uint64_t>(2);
  const Shared<uint64_t> empty = arena.Take<uint64_t>(2);
  if (ThreadIndex() == 0) {
    for (int i = 0; i < 2; ++i) {
      BarrierInit(full, i, kRing == Ring::kTooFewArrivals ? 2 : 1);
      BarrierInit(empty, i, 32);
    }
  }
  if (kRing != Ring::kNoSync) SyncThreads();
  for (int i = 0; i < 4; ++i) {
    const int place = i % 2;
    const int parity = i / 2 % 2;
    if (Warp() == 0) {
      if (kRing != Ring::kNoEmpty) BarrierWait(empty, place, parity ^ 1);
      places[place * 32 + Lane()] = static_cast<float>(i);
      if (kRing != Ring::kOtherLanes) SyncWarp();
      if (Lane() == 0) BarrierArrive(full, place);
    } else {
      if (kRing != Ring::kNoFull) {
        BarrierWait(full, place, kRing == Ring::kWrongParity ? parity ^ 1 : parity);
      }
      Store(p.out + i * 32 + Lane(), static_cast<float>(places[place * 32 + Lane()]));
      BarrierArrive(empty, place);
    }
  }
}

std::string RunRing(void (*kernel)(Params)) {
  Memory out(128, false);
  const std::string fault = RunKernel(kernel, 64, {nullptr, out.data(), 0});
  for (int i = 0; i < 128 && fault.empty(); ++i) {
    EXPECT_EQ(out.data()[i], static_cast<float>(i / 32));
  }
  return fault;
}

TEST(EmulatorHopper, BarriersOrderWhatTheyShould) {
  EXPECT_EQ(RunRing(TwoWarps<Ring::kRight>), "");
  EXPECT_THAT(RunRing(TwoWarps<Ring::kNoSync>), HasSubstr("need not see yet that it was made"));
  EXPECT_THAT(RunRing(TwoWarps<Ring::kNoFull>), HasSubstr("race in shared memory"));
  EXPECT_THAT(RunRing(TwoWarps<Ring::kNoEmpty>), HasSubstr("race in shared memory"));
  EXPECT_NE(RunRing(TwoWarps<Ring::kWrongParity>), "");
  EXPECT_THAT(RunRing(TwoWarps<Ring::kTooFewArrivals>), HasSubstr("waits for a barrier"));
  EXPECT_THAT(RunRing(TwoWarps<Ring::kOtherLanes>), HasSubstr("race in shared memory"));
}

/// How a kernel treats copies that a barrier waits for.
enum class Follow {
  kRight,
  kWaitsItselfToo,
  kOwnIsAwaited,
  kPlainArrival,
  kReadsItsOwn,
  kWritesItsOwn,
  kWaitsForTooFew,
};

/// The first warp's copies, in two groups, for the second one.
template <Follow kFollow>
void CopyForOthers(Params p) {
  constexpr int kOwn = 4 * 32;
  SharedArena arena;
  const Shared<float> place = arena.Take<float>(2 * kOwn);
  const Shared<uint64_t> full = arena.Take<uint64_t>(1);
  if (ThreadIndex() == 0) BarrierInit(full, 0, 32);
  SyncThreads();
  if (Warp() == 1) {
    BarrierWait(full, 0, 0);
    Store(p.out + Lane(), static_cast<float>(place[kOwn + Lane()]));
    return;
  }
  CopyAsync16(place, 4 * Lane(), p.in + 4 * (Lane() % 8), true);
  CommitCopies();
  CopyAsync16(place, kOwn + 4 * Lane(), p.in + 4 * (Lane() % 8), true);
  if (kFollow == Follow::kPlainArrival) {
    BarrierArrive(full, 0);
  } else {
    BarrierArriveAfterCopies(full, 0);
  }
  if (kFollow == Follow::kWritesItsOwn) place[4 * Lane()] = 0.0f;
  if (kFollow == Follow::kWaitsForTooFew) {  // for the first group only
    CommitCopies();
    WaitCopies<1>();
  }
  if (kFollow == Follow::kWaitsItselfToo) {
    CommitCopies();
    WaitCopies<0>();
  }
  if (kFollow == Follow::kOwnIsAwaited) BarrierWait(full, 0, 0);
  if (kFollow == Follow::kRight || kFollow == Follow::kPlainArrival) return;
  Store(p.out + 32 + Lane(), static_cast<float>(place[kOwn + 4 * Lane()]));
}

TEST(EmulatorHopper, BarriersMayWaitForCopies) {
  const auto run = [](void (*kernel)(Params)) {
    Memory in(32, false);
    Memory out(64, false);
    for (int i = 0; i < 32; ++i) in.data()[i] = static_cast<float>(i);
    const std::string fault = RunKernel(kernel, 64, {in.data(), out.data(), 0});
    for (int i = 0; i < 32 && fault.empty(); ++i) {
      EXPECT_EQ(out.data()[i], static_cast<float>(i));
    }
    return fault;
  };
  EXPECT_EQ(run(CopyForOthers<Follow::kRight>), "");
  EXPECT_EQ(run(CopyForOthers<Follow::kWaitsItselfToo>), "");
  EXPECT_EQ(run(CopyForOthers<Follow::kOwnIsAwaited>), "");
  EXPECT_THAT(run(CopyForOthers<Follow::kPlainArrival>), HasSubstr("not yet waited for"));
  EXPECT_THAT(run(CopyForOthers<Follow::kReadsItsOwn>), HasSubstr("not yet waited for"));
  EXPECT_THAT(run(CopyForOthers<Follow::kWritesItsOwn>), HasSubstr("not yet waited for"));
  EXPECT_THAT(run(CopyForOthers<Follow::kWaitsForTooFew>), HasSubstr("not yet waited for"));
}

/// Where a kernel that is filled in bulk goes wrong.
enum class Bulk {
  kRight,
  kNotAnnounced,
  kNoWait,
  kOverwritesTooEarly,
  kExpectsLess,
  kExpectsMore,
  kOtherBarrier,
  kOddBytes,
  kOddPlace,
  kOutside,
  kEndsTooEarly,
};

/// Two halves of 64 numbers, one after the other in the same place, by one lane for its warp.
template <Bulk kBulk>
void HalvesInBulk(Params p) {
  constexpr int kHalf = 32;
  SharedArena arena;
  const Shared<float> place = arena.Take<float>(kHalf + 4);
  const Shared<uint64_t> full = arena.Take<uint64_t>(2);
  if (Lane() == 0) {
    BarrierInit(full, 0, 1);
    BarrierInit(full, 1, 1);
    if (kBulk != Bulk::kNotAnnounced) BarriersReady();
  }
  SyncWarp();
  for (int i = 0; i < 2; ++i) {
    if (Lane() == 0) {
      const int bytes = kHalf * 4;
      BarrierArriveExpecting(full, 0,
                             kBulk == Bulk::kExpectsLess   ? bytes - 16
                             : kBulk == Bulk::kExpectsMore ? bytes + 16
                                                           : bytes);
      CopyBulkStream(place, kBulk == Bulk::kOddPlace ? 1 : 0,
                     p.in + i * kHalf + (kBulk == Bulk::kOutside ? kHalf : 0),
                     kBulk == Bulk::kOddBytes ? bytes - 4 : bytes, full,
                     kBulk == Bulk::kOtherBarrier ? 1 : 0);
    }
    if (kBulk == Bulk::kEndsTooEarly && i == 1) return;
    if (kBulk != Bulk::kNoWait) BarrierWait(full, 0, i);
    if (kBulk == Bulk::kOverwritesTooEarly) SyncWarp();
    const float number = place[31 - Lane()];
    if (kBulk != Bulk::kOverwritesTooEarly) SyncWarp();
    Store(p.out + i * kHalf + Lane(), number);
  }
}

TEST(EmulatorHopper, BulkCopiesAreWaitedForByBarriers) {
  const auto run = [](void (*kernel)(Params)) {
    Memory in(64, false);
    Memory out(64, false);
    for (int i = 0; i < 64; ++i) in.data()[i] = static_cast<float>(i);
    const std::string fault = RunKernel(kernel, 32, {in.data(), out.data(), 64});
    for (int i = 0; i < 64 && fault.empty(); ++i) {
      EXPECT_EQ(out.data()[i], static_cast<float>(i / 32 * 32 + 31 - i % 32));
    }
    return fault;
  };
  EXPECT_EQ(run(HalvesInBulk<Bulk::kRight>), "");
  EXPECT_THAT(run(HalvesInBulk<Bulk::kNotAnnounced>), HasSubstr("was not announced"));
  EXPECT_THAT(run(HalvesInBulk<Bulk::kNoWait>), HasSubstr("nobody wrote"));
  EXPECT_THAT(run(HalvesInBulk<Bulk::kOverwritesTooEarly>), HasSubstr("write after read"));
  EXPECT_THAT(run(HalvesInBulk<Bulk::kExpectsLess>), HasSubstr("to a barrier that expects 112"));
  EXPECT_THAT(run(HalvesInBulk<Bulk::kExpectsMore>), HasSubstr("waits for a barrier"));
  EXPECT_THAT(run(HalvesInBulk<Bulk::kOtherBarrier>), HasSubstr("to a barrier that expects 0"));
  EXPECT_THAT(run(HalvesInBulk<Bulk::kOddBytes>), HasSubstr("no multiple of 16"));
  EXPECT_THAT(run(HalvesInBulk<Bulk::kOddPlace>), HasSubstr("misaligned"));
  EXPECT_THAT(run(HalvesInBulk<Bulk::kOutside>), HasSubstr("out of bounds"));
  EXPECT_THAT(run(HalvesInBulk<Bulk::kEndsTooEarly>), HasSubstr("ended before a bulk copy"));
}

/// Where the fence is between what threads write and a copy in bulk to the same place.
enum class Proxy { kOfEachWriter, kOfTheCopier, kNone, kBeforeTheWrites };

template <Proxy kProxy>
void WritesThenBulk(Params p) {
  SharedArena arena;
  const Shared<float> place = arena.Take<float>(32);
  const Shared<uint64_t> full = arena.Take<uint64_t>(1);
  if (Lane() == 0) {
    BarrierInit(full, 0, 1);
    BarriersReady();
  }
  if (kProxy == Proxy::kBeforeTheWrites) ProductFence();
  place[Lane()] = 7.0f;
  if (kProxy == Proxy::kOfEachWriter) ProductFence();
  SyncWarp();
  if (Lane() == 0) {
    if (kProxy == Proxy::kOfTheCopier) ProductFence();
    BarrierArriveExpecting(full, 0, 32 * 4);
    CopyBulkStream(place, 0, p.in, 32 * 4, full, 0);
  }
  BarrierWait(full, 0, 0);
  Store(p.out + Lane(), static_cast<float>(place[31 - Lane()]));
}

TEST(EmulatorHopper, BulkCopiesNeedAFenceAfterWhatThreadsWrote) {
  EXPECT_EQ(RunOnMemory(WritesThenBulk<Proxy::kOfEachWriter>, 32), "");
  EXPECT_EQ(RunOnMemory(WritesThenBulk<Proxy::kOfTheCopier>, 32), "");
  EXPECT_THAT(RunOnMemory(WritesThenBulk<Proxy::kNone>, 32), HasSubstr("no ProductFence"));
  EXPECT_THAT(RunOnMemory(WritesThenBulk<Proxy::kBeforeTheWrites>, 32),
              HasSubstr("no ProductFence"));
}

enum class Named { kRight, kOneOnly, kTwiceArrived, kOtherCount, kNoSuch };

/// The first warp's numbers for the second one.
template <Named kNamed>
void OneForTheOther(Params p) {
  SharedArena arena;
  const Shared<float> numbers = arena.Take<float>(32);
  const int barrier = kNamed == Named::kNoSuch ? 16 : 1;
  if (Warp() == 0) {
    numbers[Lane()] = 1.0f;
    NamedBarrierArrive(barrier, 64);
    if (kNamed == Named::kTwiceArrived) NamedBarrierArrive(2, 64);
  } else if (kNamed != Named::kOneOnly) {
    NamedBarrierSync(barrier, kNamed == Named::kOtherCount ? 96 : 64);
    Store(p.out + Lane(), static_cast<float>(numbers[31 - Lane()]));
  }
}

TEST(EmulatorHopper, NamedBarriersCount) {
  EXPECT_EQ(RunOnMemory(OneForTheOther<Named::kRight>, 64), "");
  EXPECT_THAT(RunOnMemory(OneForTheOther<Named::kOneOnly>, 64), HasSubstr("nobody waited for"));
  EXPECT_THAT(RunOnMemory(OneForTheOther<Named::kTwiceArrived>, 64),
              HasSubstr("nobody waited for"));
  EXPECT_THAT(RunOnMemory(OneForTheOther<Named::kOtherCount>, 64), HasSubstr("taken for one of"));
  EXPECT_THAT(RunOnMemory(OneForTheOther<Named::kNoSuch>, 64), HasSubstr("no such named barrier"));
}

}  // namespace
}  // namespace xcomposer::cuda
