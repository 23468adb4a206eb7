#pragma once

#include "support/emulator/device.h"

// The emulated twin of kernels/cuda/device_hopper_gpu.cuh.

#define XCOMPOSER_WARPGROUP_PRODUCTS

namespace xcomposer::cuda {

// --- barriers
// ------------------------------------------------------------------------------------
inline void BarrierInit(const Shared<uint64_t>& barriers, int index, int arrivals,
                        Where where = Where::current()) {
  Gpu().BarrierInit(barriers.At(index, where), arrivals, SiteOf(where));
}
inline void BarrierArrive(const Shared<uint64_t>& barriers, int index,
                          Where where = Where::current()) {
  Gpu().BarrierArrive(barriers.At(index, where), SiteOf(where));
}
inline void BarrierArriveAfterCopies(const Shared<uint64_t>& barriers, int index,
                                     Where where = Where::current()) {
  Gpu().BarrierArriveAfterCopies(barriers.At(index, where), SiteOf(where));
}
inline void BarrierWait(const Shared<uint64_t>& barriers, int index, int parity,
                        Where where = Where::current()) {
  Gpu().BarrierWait(barriers.At(index, where), parity, SiteOf(where));
}
inline void BarriersReady() { Gpu().BarriersReady(); }
inline void BarrierArriveExpecting(const Shared<uint64_t>& barriers, int index, int bytes,
                                   Where where = Where::current()) {
  Gpu().BarrierArriveExpecting(barriers.At(index, where), bytes, SiteOf(where));
}
template <typename V>
void CopyBulkStream(const Shared<V>& shared, int index, const V* global, int bytes,
                    const Shared<uint64_t>& barriers, int barrier, Where where = Where::current()) {
  Gpu().CopyBulk(shared.At(index, where), global, bytes, barriers.At(barrier, where),
                 SiteOf(where));
}
inline void NamedBarrierSync(int barrier, int threads, Where where = Where::current()) {
  Gpu().NamedBarrier(barrier, threads, /*waits=*/true, SiteOf(where));
}
inline void NamedBarrierArrive(int barrier, int threads, Where where = Where::current()) {
  Gpu().NamedBarrier(barrier, threads, /*waits=*/false, SiteOf(where));
}

// --- products
// ------------------------------------------------------------------------------------
inline void ProductFence() { Gpu().ProductFence(); }
inline void WarpgroupFence() { Gpu().WarpgroupFence(); }
inline void CommitProducts() { Gpu().CommitProducts(); }
template <int kPending, int kCount>
void WaitProducts(float (&)[kCount], Where where = Where::current()) {
  Gpu().WaitProducts(kPending, SiteOf(where));
}
inline void HoldWaits(float) {}
inline int Anew(int x) { return x; }

namespace fragment {

/// Row and column of number i of d that a thread of the warpgroup holds.
inline int RowOfSum(int thread, int i) { return thread / 32 * 16 + RowOfC(thread % 32, i % 4); }
inline int ColumnOfSum(int thread, int i) { return i / 4 * 8 + ColumnOfC(thread % 32, i % 4); }

struct ProductOperand {
  float* d;
  const uint32_t* a;  ///< in registers; null: in shared memory
  uint64_t a_descriptor;
  uint64_t b_descriptor;
};

template <typename T>
void LoadEight(uint32_t address, emulator::Site site, float (&out)[8]) {
  const unsigned char* from = Gpu().ProductRead(address, site);
  for (size_t i = 0; i < 8; ++i) {
    T value;
    std::memcpy(&value, from + 2 * i, 2);
    out[i] = Widen(value);
  }
}

/// What the last thread of a warpgroup does for all: d = a b, or += if `add`.
template <typename T, int kCount>
void Multiply(std::array<void*, 128>& operands, bool add, emulator::Site site) {
  constexpr int kColumns = 2 * kCount;
  static float a[64][16];
  static float b[16][kColumns];
  static float product[64][kColumns];
  const auto at = [&operands](int thread) {
    return static_cast<ProductOperand*>(operands[static_cast<size_t>(thread)]);
  };
  Gpu().BeginProduct(site);
  const bool registers = at(0)->a != nullptr;
  for (int t = 1; t < 128; ++t) {
    if (at(t)->b_descriptor != at(0)->b_descriptor || at(t)->a_descriptor != at(0)->a_descriptor) {
      throw emulator::Fault("matrix descriptors of a warpgroup's threads differ, at " +
                            ToString(site));
    }
  }
  float eight[8];
  if (registers) {
    for (int t = 0; t < 128; ++t) {
      for (int i = 0; i < 8; ++i) {
        a[t / 32 * 16 + RowOfA(t % 32, i)][ColumnOfA(t % 32, i)] = Element<T>(at(t)->a, i);
      }
    }
  } else {
    const emulator::MatrixLayout layout(at(0)->a_descriptor, Gpu().Now(site));
    for (int row = 0; row < 64; ++row) {
      for (int part = 0; part < 2; ++part) {
        LoadEight<T>(layout.AlongK(row, part), site, eight);
        for (int i = 0; i < 8; ++i) a[row][8 * part + i] = eight[i];
      }
    }
  }
  const emulator::MatrixLayout layout(at(0)->b_descriptor, Gpu().Now(site));
  if (registers) {
    for (int k = 0; k < 16; ++k) {
      for (int part = 0; part < kColumns / 8; ++part) {
        LoadEight<T>(layout.AlongRows(k, part), site, eight);
        for (int i = 0; i < 8; ++i) b[k][8 * part + i] = eight[i];
      }
    }
  } else {
    for (int n = 0; n < kColumns; ++n) {
      for (int part = 0; part < 2; ++part) {
        LoadEight<T>(layout.AlongK(n, part), site, eight);
        for (int i = 0; i < 8; ++i) b[8 * part + i][n] = eight[i];
      }
    }
  }
  for (int row = 0; row < 64; ++row) {
    for (float& x : product[row]) x = 0.0f;
    for (int k = 0; k < 16; ++k) {
      for (int n = 0; n < kColumns; ++n) product[row][n] += a[row][k] * b[k][n];
    }
  }
  for (int t = 0; t < 128; ++t) {
    std::vector<float> sums(kCount, 0.0f);
    const float* before = Gpu().ProductSums(t, at(t)->d);
    for (int i = 0; i < kCount; ++i) {
      sums[static_cast<size_t>(i)] =
          product[RowOfSum(t, i)][ColumnOfSum(t, i)] + (add ? before[i] : 0.0f);
    }
    Gpu().GiveProduct(t, at(t)->d, sums);
  }
}

}  // namespace fragment

template <typename T, bool kAdd, int kCount>
void WarpgroupMultiply(float (&d)[kCount], uint64_t a, uint64_t b, Where where = Where::current()) {
  fragment::ProductOperand operand{d, nullptr, a, b};
  Gpu().WarpgroupCollective(
      &operand,
      [where](std::array<void*, 128>& operands) {
        fragment::Multiply<T, kCount>(operands, kAdd, SiteOf(where));
      },
      SiteOf(where));
}

template <typename T, int kCount>
void WarpgroupMultiplyRows(float (&d)[kCount], const uint32_t (&a)[4], uint64_t b,
                           Where where = Where::current()) {
  fragment::ProductOperand operand{d, a, 0, b};
  Gpu().ProductUsesRegisters(a);
  Gpu().WarpgroupCollective(
      &operand,
      [where](std::array<void*, 128>& operands) {
        fragment::Multiply<T, kCount>(operands, true, SiteOf(where));
      },
      SiteOf(where));
}

template <int kRegisters>
void GiveUpRegisters() {}
template <int kRegisters>
void TakeRegisters() {}

}  // namespace xcomposer::cuda
