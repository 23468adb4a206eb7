#pragma once

#include "kernels/cuda/decode_linear.h"
#include "kernels/cuda/kept_row.cuh"

namespace xcomposer::cuda {

// How the input of a product of one row comes to the shared memory of each block.

constexpr int kDecodeThreads = 256;

/// x = RmsNorm(row), rounded as the products of many rows have it.
template <typename T>
struct NormedInput {
  const NormedRow& row;
  int columns;

  /// The norm's weight, into the place of the input.
  XCOMPOSER_DEVICE void CopyWeights(const Shared<T>& x) const {
    for (int c = 8 * ThreadIndex(); c < columns; c += 8 * kDecodeThreads) {
      CopyAsync16(x, c, static_cast<const T*>(row.weight) + c, true);
    }
  }

  /// Called by the block's first kDecodeThreads threads, which `sync()` is a barrier of.
  /// `ask_more()` asks for what is not wanted before the row; `arrived()` waits for this thread's
  /// weights of the norm.
  template <typename AskMore, typename Arrived, typename Sync>
  XCOMPOSER_DEVICE void Fill(const Shared<float>& partial, const Shared<T>& x,
                             const AskMore& ask_more, const Arrived& arrived,
                             const Sync& sync) const {
    const KeptRow kept(row.hidden, columns, kDecodeThreads);
    ask_more();
    const float squares = SumOfWarps(kept.Squares(), kDecodeThreads / 32, partial, sync);
    const float mean = squares / static_cast<float>(columns);
    const float factor = ReciprocalRoot(mean + row.eps);
    arrived();
    kept.ForParts([&](int, int c, const float(&eight)[8]) { Scale(eight, factor, x, c); });
  }

 private:
  /// The norm's weights of these columns lie where the input is to be.
  XCOMPOSER_DEVICE static void Scale(const float (&eight)[8], float factor, const Shared<T>& x,
                                     int c) {
    float weight[8];
    Unpack<T>(LoadVector(x, c), weight);
    XCOMPOSER_UNROLL
    for (int i = 0; i < 8; ++i) weight[i] = eight[i] * factor * weight[i];
    StoreVector(x, c, PackVector<T>(weight));
  }
};

/// x as it is stored.
template <typename T>
struct StoredInput {
  const T* stored;
  int columns;

  XCOMPOSER_DEVICE void CopyWeights(const Shared<T>&) const {}

  template <typename AskMore, typename Arrived, typename Sync>
  XCOMPOSER_DEVICE void Fill(const Shared<float>&, const Shared<T>& x, const AskMore& ask_more,
                             const Arrived&, const Sync&) const {
    constexpr int kStride = 8 * kDecodeThreads;
    constexpr int kAtOnce = 8;
    const int begin = 8 * ThreadIndex();
    for (int first = begin; first == begin || first < columns; first += kAtOnce * kStride) {
      Vector16 some[kAtOnce];
      XCOMPOSER_UNROLL
      for (int i = 0; i < kAtOnce; ++i) {
        some[i] = LoadVector(stored + Min(first + i * kStride, columns - 8));
      }
      if (first == begin) ask_more();
      XCOMPOSER_UNROLL
      for (int i = 0; i < kAtOnce; ++i) {
        if (first + i * kStride < columns) StoreVector(x, first + i * kStride, some[i]);
      }
    }
  }
};

}  // namespace xcomposer::cuda
