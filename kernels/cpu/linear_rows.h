#pragma once

#include "kernels/cpu/kernel_args.h"
#include "kernels/cpu/simd.h"

namespace xcomposer::cpu {

// Few rows of x (decoding): every row of the weight is read from memory once, several rows at a
// time as independent streams, and multiplied with all rows of x while it is in the cache. A sum is
// taken over S::kWidth interleaved partial sums in ascending order of k and does not depend on
// which rows of x or of the weight happen to share the loop.

/// Far enough ahead that the line has arrived, near enough that it is still there.
inline constexpr int64_t kPrefetchBytes = 1536;

template <typename S, Format format, int kOutputs, int kRows>
inline void DotTile(const LinearKernelArgs& args, int64_t n, int64_t row) {
  using F = typename S::F;
  using Element = typename ElementOf<format>::Type;
  const Element* weight = static_cast<const Element*>(args.weight) + n * args.weight_stride;
  const float* x = args.x + row * args.x_stride;
  F sums[kOutputs][kRows];
  XCOMPOSER_UNROLL
  for (int o = 0; o < kOutputs; ++o) {
    XCOMPOSER_UNROLL
    for (int t = 0; t < kRows; ++t) sums[o][t] = S::Zero();
  }
  constexpr int64_t kAhead = kPrefetchBytes / static_cast<int64_t>(sizeof(Element));
  constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(Element));
  const int64_t whole = args.depth - args.depth % S::kWidth;
  for (int64_t k = 0; k < whole; k += S::kWidth) {
    if (k % kLine == 0) {
      // Past the end of a row, what comes next is the same place in the next rows of the loop.
      const int64_t ahead = k + kAhead < args.depth
                                ? k + kAhead
                                : k + kAhead - args.depth + kOutputs * args.weight_stride;
      XCOMPOSER_UNROLL
      for (int o = 0; o < kOutputs; ++o) S::Prefetch(weight + o * args.weight_stride + ahead);
    }
    F column[kRows];
    XCOMPOSER_UNROLL
    for (int t = 0; t < kRows; ++t) column[t] = S::Load(x + t * args.x_stride + k);
    XCOMPOSER_UNROLL
    for (int o = 0; o < kOutputs; ++o) {
      const F w = S::template LoadAs<format>(weight + o * args.weight_stride + k);
      XCOMPOSER_UNROLL
      for (int t = 0; t < kRows; ++t) sums[o][t] = S::Fma(w, column[t], sums[o][t]);
    }
  }
  if (whole < args.depth) {
    const int64_t rest = args.depth - whole;
    XCOMPOSER_UNROLL
    for (int o = 0; o < kOutputs; ++o) {
      const F w = S::template LoadAsN<format>(weight + o * args.weight_stride + whole, rest);
      XCOMPOSER_UNROLL
      for (int t = 0; t < kRows; ++t) {
        sums[o][t] = S::Fma(w, S::LoadN(x + t * args.x_stride + whole, rest), sums[o][t]);
      }
    }
  }
  XCOMPOSER_UNROLL
  for (int o = 0; o < kOutputs; ++o) {
    XCOMPOSER_UNROLL
    for (int t = 0; t < kRows; ++t) {
      float* y = args.y + (row + t) * args.y_stride + n + o;
      const float bias = args.bias != nullptr ? args.bias[n + o] : 0.0f;
      const float sum = args.scale * S::Sum(sums[o][t]) + bias;
      *y = args.accumulate ? *y + sum : sum;
    }
  }
}

/// kOutputs rows of the weight with all rows of x, kRows of these at a time.
template <typename S, Format format, int kOutputs, int kRows>
inline void DotRows(const LinearKernelArgs& args, int64_t n, int64_t row) {
  for (; row + kRows <= args.rows; row += kRows) {
    DotTile<S, format, kOutputs, kRows>(args, n, row);
  }
  if constexpr (kRows > 1) DotRows<S, format, kOutputs, kRows / 2>(args, n, row);
}

template <typename S, Format format>
void LinearRows(const LinearKernelArgs& args, int64_t n_begin, int64_t n_end) {
  constexpr int kOutputs = 4;
  constexpr int kRows = S::kWidth == 16 ? 4 : 2;
  int64_t n = n_begin;
  for (; n + kOutputs <= n_end; n += kOutputs) DotRows<S, format, kOutputs, kRows>(args, n, 0);
  for (; n < n_end; ++n) DotRows<S, format, 1, kRows>(args, n, 0);
}

}  // namespace xcomposer::cpu
