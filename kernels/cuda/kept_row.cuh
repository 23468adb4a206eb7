#pragma once

#include "kernels/cuda/vector.cuh"

namespace xcomposer::cuda {

/// A thread's share of a row in float32, 8 numbers at a time, which is summed up and then used: the
/// first parts stay in registers meanwhile (of all threads 4096 numbers, where they are 256), the
/// others are read again.
struct KeptRow {
  static constexpr int kKept = 2;

  const float* row;
  int columns;
  int stride;
  int first = 8 * ThreadIndex();
  float kept[kKept][8];

  XCOMPOSER_DEVICE KeptRow(const float* row, int columns, int threads)
      : row(row), columns(columns), stride(8 * threads) {
    XCOMPOSER_UNROLL
    for (int k = 0; k < kKept; ++k) LoadEight(row + Min(Column(k), columns - 8), kept[k]);
  }

  XCOMPOSER_DEVICE int Column(int part) const { return first + part * stride; }

  XCOMPOSER_DEVICE float Squares() const {
    float squares = 0.0f;
    ForParts([&squares](int, int, const float(&eight)[8]) {
      XCOMPOSER_UNROLL
      for (int i = 0; i < 8; ++i) squares += eight[i] * eight[i];
    });
    return squares;
  }

  /// use(part, its first column, its numbers); parts from kKept on all as kKept.
  template <typename Use>
  XCOMPOSER_DEVICE void ForParts(const Use& use) const {
    XCOMPOSER_UNROLL
    for (int k = 0; k < kKept; ++k) {
      if (Column(k) < columns) use(k, Column(k), kept[k]);
    }
    for (int c = Column(kKept); c < columns; c += stride) {
      float eight[8];
      LoadEight(row + c, eight);
      use(kKept, c, eight);
    }
  }
};

}  // namespace xcomposer::cuda
