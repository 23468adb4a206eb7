#pragma once

#include <type_traits>

#include "kernels/cuda/place_weights.h"
#include "kernels/cuda/vector.cuh"

namespace xcomposer::cuda {

// Eight numbers to a thread. They come over the link at a hundredth of the memory's rate, so that
// nothing here has to be fast; but a tensor whose rows are whole vectors is moved in vectors.

XCOMPOSER_DEVICE bool IsFinite(float x) { return (BitsOf(x) & 0x7F800000) != 0x7F800000; }

/// What a thread's numbers lost.
struct Losses {
  int overflows = 0;
  int underflows = 0;

  template <typename To>
  XCOMPOSER_DEVICE void Compare(float before, To after) {
    const float y = ToFloat(after);
    overflows += IsFinite(before) && !IsFinite(y) ? 1 : 0;
    underflows += before != 0.0f && y == 0.0f ? 1 : 0;
  }

  /// Called by all lanes of a warp.
  XCOMPOSER_DEVICE void AddTo(uint64_t* counters) const {
    const int all_overflows = WarpSum(overflows);
    const int all_underflows = WarpSum(underflows);
    if (Lane() != 0) return;
    if (all_overflows > 0) AtomicCount(counters, static_cast<uint64_t>(all_overflows));
    if (all_underflows > 0) AtomicCount(counters + 1, static_cast<uint64_t>(all_underflows));
  }
};

template <typename From, typename To>
XCOMPOSER_DEVICE void PlaceEight(const From* in, To* out, Losses& losses) {
  if constexpr (std::is_same_v<From, To>) {
    StoreVector(out, LoadVector(in));
  } else {
    float eight[8];
    LoadEight(in, eight);
    const Vector16 placed = PackVector<To>(eight);
    XCOMPOSER_UNROLL
    for (int k = 0; k < 8; ++k) {
      losses.Compare(eight[k], To{static_cast<uint16_t>(placed.words[k / 2] >> 16 * (k % 2))});
    }
    StoreVector(out, placed);
  }
}

template <typename From, typename To>
XCOMPOSER_DEVICE void PlaceOne(const From* in, To* out, Losses& losses) {
  const From before = Load(in);
  if constexpr (std::is_same_v<From, To>) {
    Store(out, before);
  } else {
    const To after = FromFloat<To>(ToFloat(before));
    losses.Compare(ToFloat(before), after);
    Store(out, after);
  }
}

/// Number `i` of a tensor.
template <typename To>
XCOMPOSER_DEVICE To* PlaceOf(const PlaceWeightsParams& p, int64_t i) {
  const int64_t row = i / p.columns;
  return static_cast<To*>(p.target) + row * p.row_stride + (i - row * p.columns);
}

template <typename From, typename To>
__global__ void __launch_bounds__(256) PlaceWeightsKernel(PlaceWeightsParams p) {
  GridDependencyLaunch();
  GridDependencyWait();
  const From* in = static_cast<const From*>(p.staged);
  const int64_t i = 8 * (static_cast<int64_t>(BlockX()) * BlockThreads() + ThreadIndex());
  // Eight numbers from a multiple of eight on then lie in one row, and on 16 bytes.
  const bool whole_vectors = (p.first | p.columns | p.row_stride) % 8 == 0 &&
                             reinterpret_cast<uintptr_t>(p.target) % 16 == 0;
  Losses losses;
  if (whole_vectors && i + 8 <= p.count) {
    PlaceEight(in + i, PlaceOf<To>(p, p.first + i), losses);
  } else {
    for (int64_t k = i; k < p.count && k < i + 8; ++k) {
      PlaceOne(in + k, PlaceOf<To>(p, p.first + k), losses);
    }
  }
  if constexpr (!std::is_same_v<From, To>) losses.AddTo(p.losses);
}

}  // namespace xcomposer::cuda
