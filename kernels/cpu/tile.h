#pragma once

#include "kernels/cpu/simd.h"

namespace xcomposer::cpu {

/// The two factors of a block of sums: sum[i][j] = over p < depth of a[p * a_stride + i] * b[p *
/// b_stride + j]. `i` runs over at most S::kRows numbers that lie side by side, `j` over whole
/// vectors of b.
struct TileFactors {
  int64_t depth = 0;
  const float* a = nullptr;
  int64_t a_stride = 0;
  const float* b = nullptr;
  int64_t b_stride = 0;
  int64_t stretch = int64_t{1} << 40;  ///< turns of the loop after which it calls `between`
};

/// The product that everything large is made of: a block of kRows x (kVectors * S::kWidth) sums
/// kept in registers over the whole depth, in ascending order of p. `finish(i, v, sum)` receives
/// each vector; `between()` is called before each stretch.
template <typename S, int kRows, int kVectors, typename Between, typename Finish>
XCOMPOSER_INLINE void Tile(const TileFactors& factors, const Between& between,
                           const Finish& finish) {
  using F = typename S::F;
  F sums[kRows][kVectors];
  XCOMPOSER_UNROLL
  for (int i = 0; i < kRows; ++i) {
    XCOMPOSER_UNROLL
    for (int v = 0; v < kVectors; ++v) sums[i][v] = S::Zero();
  }
  const float* a = factors.a;
  const float* b = factors.b;
  for (int64_t left = factors.depth; left > 0; left -= factors.stretch) {
    between();
    const int64_t stretch = left < factors.stretch ? left : factors.stretch;
    XCOMPOSER_UNROLL_4
    for (int64_t p = 0; p < stretch; ++p) {
      F columns[kVectors];
      XCOMPOSER_UNROLL
      for (int v = 0; v < kVectors; ++v) columns[v] = S::Load(b + v * S::kWidth);
      XCOMPOSER_UNROLL
      for (int i = 0; i < kRows; ++i) {
        const F row = S::Set(a[i]);
        XCOMPOSER_UNROLL
        for (int v = 0; v < kVectors; ++v) sums[i][v] = S::Fma(row, columns[v], sums[i][v]);
      }
      a += factors.a_stride;
      b += factors.b_stride;
    }
  }
  XCOMPOSER_UNROLL
  for (int i = 0; i < kRows; ++i) {
    XCOMPOSER_UNROLL
    for (int v = 0; v < kVectors; ++v) finish(i, v, sums[i][v]);
  }
}

/// Tile for `rows` <= S::kRows and `vectors` <= S::kVectors that are known only now.
template <typename S, int kVectors = S::kVectors, int kRows = S::kRows, typename Between,
          typename Finish>
inline void TileOf(int rows, int vectors, const TileFactors& factors, const Between& between,
                   const Finish& finish) {
  if constexpr (kVectors > 1) {
    if (vectors < kVectors) {
      return TileOf<S, kVectors - 1, kRows>(rows, vectors, factors, between, finish);
    }
  }
  if constexpr (kRows > 1) {
    if (rows < kRows) {
      return TileOf<S, kVectors, kRows - 1>(rows, vectors, factors, between, finish);
    }
  }
  Tile<S, kRows, kVectors>(factors, between, finish);
}

template <typename S, typename Finish>
inline void TileOf(int rows, int vectors, const TileFactors& factors, const Finish& finish) {
  TileOf<S>(rows, vectors, factors, []() __attribute__((always_inline)){}, finish);
}

}  // namespace xcomposer::cpu
