#pragma once

#include "kernels/cuda/elementwise.cuh"
#include "kernels/cuda/linear_few_rows.h"

namespace xcomposer::cuda {

// y^T = weight x^T on tensor cores: 16 rows of the weight are the left factor's rows, 8 rows of x
// the right factor's columns, so that few rows of x waste little. A block takes 16 rows of the
// weight; its warps share out K and add up their parts at the end, in a fixed order.
//
// Both factors come straight from memory, 16 bytes per lane: which of K's numbers stand where along
// the sum does not matter as long as both factors agree. Of 32 numbers, lane t of four holds 8t ..
// 8t
// + 7, two for each half of two instructions. The weight is read once, past L1; x stays in cache.
// In flight per warp: kDepth tiles of 16 rows by 32 numbers, 1 KiB each; the first ones are loaded
// before the kernel before has ended.

constexpr int kFewRowsWarps = 8;
constexpr int kFewRowsDepth = 4;

/// 16 rows by 32 numbers of the weight: this lane's parts of rows g and g + 8.
struct WeightFragment {
  Vector16 low;
  Vector16 high;
};

template <typename T>
XCOMPOSER_DEVICE WeightFragment LoadFragment(const WeightMatrix& weight, int first_row, int begin,
                                             int end) {
  WeightFragment out{};
  const int row = first_row + Lane() / 4;
  if (begin >= end) return out;
  const T* p =
      static_cast<const T*>(weight.data) + row * weight.row_stride + begin + Lane() % 4 * 8;
  if (row < weight.rows) out.low = LoadStream(p);
  if (row + 8 < weight.rows) out.high = LoadStream(p + 8 * weight.row_stride);
  return out;
}

/// d += 16 rows of the weight times 8 rows of x, over 32 numbers.
template <typename T>
XCOMPOSER_DEVICE void MultiplyFragment(const WeightFragment& w, const Vector16& x, float (&d)[4]) {
  XCOMPOSER_UNROLL
  for (int i = 0; i < 4; i += 2) {
    const uint32_t a[4] = {w.low.words[i], w.high.words[i], w.low.words[i + 1],
                           w.high.words[i + 1]};
    MultiplyAdd<T>(d, a, x.words[i], x.words[i + 1]);
  }
}

/// Products of 16 rows of kMatrices weights with all rows of x. Leaves in `parts` the sums of each
/// warp: (matrices, warps, tiles, 16 weight rows, 8 rows of x).
template <typename T, int kMatrices, int kTiles>
XCOMPOSER_DEVICE void MultiplyFewRows(const WeightMatrix (&weights)[kMatrices], const void* x,
                                      int rows, int first_row, const Shared<float>& parts) {
  GridDependencyLaunch();
  const int columns = static_cast<int>(weights[0].columns);
  constexpr int kStride = 32 * kFewRowsWarps;
  WeightFragment next[kFewRowsDepth][kMatrices];
  int begin = 32 * Warp();
  XCOMPOSER_UNROLL
  for (int i = 0; i < kFewRowsDepth; ++i) {
    XCOMPOSER_UNROLL
    for (int m = 0; m < kMatrices; ++m) {
      next[i][m] = LoadFragment<T>(weights[m], first_row, begin + i * kStride, columns);
    }
  }
  GridDependencyWait();
  float sums[kMatrices][kTiles][4] = {};
  while (begin < columns) {
    XCOMPOSER_UNROLL
    for (int i = 0; i < kFewRowsDepth; ++i) {
      const int k = begin + i * kStride;
      WeightFragment now[kMatrices];
      XCOMPOSER_UNROLL
      for (int m = 0; m < kMatrices; ++m) {
        now[m] = next[i][m];
        next[i][m] = LoadFragment<T>(weights[m], first_row, k + kFewRowsDepth * kStride, columns);
      }
      if (k >= columns) continue;
      XCOMPOSER_UNROLL
      for (int n = 0; n < kTiles; ++n) {
        const int row = n * 8 + Lane() / 4;
        const T* p = static_cast<const T*>(x) + static_cast<int64_t>(row) * columns + k;
        const Vector16 inputs = row < rows ? LoadVector(p + Lane() % 4 * 8) : Vector16{};
        XCOMPOSER_UNROLL
        for (int m = 0; m < kMatrices; ++m) MultiplyFragment<T>(now[m], inputs, sums[m][n]);
      }
    }
    begin += kFewRowsDepth * kStride;
  }
  XCOMPOSER_UNROLL
  for (int m = 0; m < kMatrices; ++m) {
    XCOMPOSER_UNROLL
    for (int n = 0; n < kTiles; ++n) {
      XCOMPOSER_UNROLL
      for (int i = 0; i < 4; ++i) {
        const int row = Lane() / 4 + i / 2 * 8;
        const int column = Lane() % 4 * 2 + i % 2;
        parts[(((m * kFewRowsWarps + Warp()) * kTiles + n) * 16 + row) * 8 + column] =
            sums[m][n][i];
      }
    }
  }
  SyncThreads();  // all warps' parts are written before they are added up
}

template <int kTiles>
XCOMPOSER_DEVICE float SumOfParts(const Shared<float>& parts, int matrix, int tile, int row,
                                  int column) {
  float sum = 0.0f;
  for (int w = 0; w < kFewRowsWarps; ++w) {
    sum += parts[(((matrix * kFewRowsWarps + w) * kTiles + tile) * 16 + row) * 8 + column];
  }
  return sum;
}

/// Calls store(row of x, row of the weight, place in `parts`) for what the block has computed:
/// neighbouring threads take neighbouring rows of the weight, which lie side by side in y.
template <int kTiles, typename StoreOne>
XCOMPOSER_DEVICE void ForResults(int rows, int first_row, int64_t outputs, const StoreOne& store) {
  for (int i = ThreadIndex(); i < rows * 16; i += 32 * kFewRowsWarps) {
    const int row = i / 16;
    const int64_t output = first_row + i % 16;
    if (output < outputs) store(row, output, row / 8, i % 16, row % 8);
  }
}

enum class FewRowsResult { kStored, kFloat, kAdd };

template <typename T, int kTiles, FewRowsResult kResult>
__global__ void __launch_bounds__(32 * kFewRowsWarps) FewRowsKernel(FewRowsParams p) {
  SharedArena arena;
  const Shared<float> parts = arena.Take<float>(kFewRowsWarps * kTiles * 16 * 8);
  const int first_row = BlockX() * 16;
  const int rows = static_cast<int>(p.rows);
  MultiplyFewRows<T, 1, kTiles>({p.weight}, p.x, rows, first_row, parts);
  ForResults<kTiles>(rows, first_row, p.weight.rows,
                     [&](int row, int64_t output, int tile, int r, int c) {
                       const float sum = SumOfParts<kTiles>(parts, 0, tile, r, c);
                       const int64_t at = row * p.weight.rows + output;
                       if (kResult == FewRowsResult::kStored) {
                         Store(static_cast<T*>(p.y) + at, FromFloat<T>(sum));
                       } else {
                         float* y = static_cast<float*>(p.y) + at;
                         Store(y, kResult == FewRowsResult::kAdd ? Load(y) + sum : sum);
                       }
                     });
}

template <typename T, int kTiles>
__global__ void __launch_bounds__(32 * kFewRowsWarps) GateUpKernel(FewRowsGateUpParams p) {
  SharedArena arena;
  const Shared<float> parts = arena.Take<float>(2 * kFewRowsWarps * kTiles * 16 * 8);
  const int first_row = BlockX() * 16;
  const int rows = static_cast<int>(p.rows);
  MultiplyFewRows<T, 2, kTiles>({p.w1, p.w3}, p.x, rows, first_row, parts);
  ForResults<kTiles>(
      rows, first_row, p.w1.rows, [&](int row, int64_t output, int tile, int r, int c) {
        const float gate = SumOfParts<kTiles>(parts, 0, tile, r, c);
        const float up = SumOfParts<kTiles>(parts, 1, tile, r, c);
        Store(static_cast<T*>(p.out) + row * p.w1.rows + output, FromFloat<T>(Silu(gate) * up));
      });
}

}  // namespace xcomposer::cuda
