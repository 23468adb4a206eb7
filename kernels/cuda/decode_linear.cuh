#pragma once

#include "kernels/cuda/decode_linear.h"
#include "kernels/cuda/elementwise.cuh"
#include "kernels/cuda/norm.cuh"

namespace xcomposer::cuda {

// Matrix times vector, two rows of the matrix per warp: a rotary pair, a gate and its up, or
// neighbours. One row's result needs the whole input, which the block keeps in shared memory,
// stored as the weights are: 8 products cost one 16-byte load from either side.
//
// Memory is what limits this, so that each lane keeps kLoads loads of both rows in flight while it
// multiplies the ones before: 2 * 4 * 16 bytes * 256 threads = 32 KiB per block, 64 KiB per
// multiprocessor at two blocks, where 4 TB/s over 132 multiprocessors at 700 ns ask for 23 KiB. The
// first loads are issued before the kernel before has ended: no kernel writes weights.

constexpr int kDecodeThreads = 256;
constexpr int kDecodeLoads = 4;
constexpr int kDecodeTile = 32 * 8 * kDecodeLoads;  // columns that a warp takes at a time

template <typename T>
struct RowPair {
  const T* first = nullptr;
  const T* second = nullptr;
};

/// The weights that one lane multiplies at a time; zeros past the end of the rows.
struct WeightTile {
  Vector16 first[kDecodeLoads];
  Vector16 second[kDecodeLoads];
};

template <typename T>
XCOMPOSER_DEVICE void LoadTile(const RowPair<T>& rows, int begin, int columns, WeightTile& tile) {
  XCOMPOSER_UNROLL
  for (int i = 0; i < kDecodeLoads; ++i) {
    const int c = begin + (i * 32 + Lane()) * 8;
    tile.first[i] = tile.second[i] = Vector16{};
    if (c < columns) {
      tile.first[i] = LoadStream(rows.first + c);
      tile.second[i] = LoadStream(rows.second + c);
    }
  }
}

template <typename T>
XCOMPOSER_DEVICE void MultiplyTile(const WeightTile& tile, const Shared<T>& x, int begin,
                                   int columns, float& first, float& second) {
  XCOMPOSER_UNROLL
  for (int i = 0; i < kDecodeLoads; ++i) {
    const int c = begin + (i * 32 + Lane()) * 8;
    if (c >= columns) continue;
    float inputs[8];
    float weights[8];
    Unpack<T>(LoadVector(x, c), inputs);
    Unpack<T>(tile.first[i], weights);
    XCOMPOSER_UNROLL
    for (int k = 0; k < 8; ++k) first += weights[k] * inputs[k];
    Unpack<T>(tile.second[i], weights);
    XCOMPOSER_UNROLL
    for (int k = 0; k < 8; ++k) second += weights[k] * inputs[k];
  }
}

/// x = RmsNorm(row), rounded as the products of many rows have it.
template <typename T>
XCOMPOSER_DEVICE void NormToShared(const NormedRow& row, int columns, const Shared<float>& partial,
                                   const Shared<T>& x) {
  const float squares = RowSum(
      row.hidden, columns, [](float f) { return f * f; }, partial);
  const float factor = ReciprocalRoot(squares / static_cast<float>(columns) + row.eps);
  for (int c = 8 * ThreadIndex(); c < columns; c += 8 * BlockThreads()) {
    float eight[8];
    float weight[8];
    LoadEight(row.hidden + c, eight);
    LoadEight(static_cast<const T*>(row.weight) + c, weight);
    XCOMPOSER_UNROLL
    for (int i = 0; i < 8; ++i) eight[i] = eight[i] * factor * weight[i];
    StoreVector(x, c, PackVector<T>(eight));
  }
}

/// What a kernel does, given how it numbers its row pairs (`rows`), how it gets its input
/// (`fill`), and what it makes of a pair's two results (`finish`, called by every lane).
template <typename T, typename Rows, typename Fill, typename Finish>
XCOMPOSER_DEVICE void MultiplyPairs(int pairs, int columns, const Rows& rows, const Fill& fill,
                                    const Finish& finish) {
  GridDependencyLaunch();
  const int stride = GridX() * (BlockThreads() / 32);
  int pair = BlockX() * (BlockThreads() / 32) + Warp();
  int begin = 0;
  WeightTile next;
  if (pair < pairs) LoadTile(rows(pair), begin, columns, next);
  GridDependencyWait();
  SharedArena arena;
  const Shared<float> partial = arena.Take<float>(kDecodeThreads / 32);
  const Shared<T> x = arena.Take<T>(columns);
  fill(partial, x);
  SyncThreads();  // the whole input is there before any warp multiplies with it
  float first = 0.0f;
  float second = 0.0f;
  while (pair < pairs) {
    const WeightTile tile = next;
    const int tile_pair = pair;
    const int tile_begin = begin;
    begin += kDecodeTile;
    if (begin >= columns) {
      begin = 0;
      pair += stride;
    }
    if (pair < pairs) LoadTile(rows(pair), begin, columns, next);
    MultiplyTile(tile, x, tile_begin, columns, first, second);
    if (begin == 0) {
      finish(tile_pair, WarpSum(first), WarpSum(second));
      first = second = 0.0f;
    }
  }
}

template <typename T>
XCOMPOSER_DEVICE const T* RowOf(const WeightMatrix& weight, int64_t row) {
  return static_cast<const T*>(weight.data) + row * weight.row_stride;
}

template <typename T>
__global__ void __launch_bounds__(kDecodeThreads, 2) DecodeQkvKernel(DecodeQkvParams p) {
  const int dim = static_cast<int>(p.shape.head_dim);
  const int half = dim / 2;
  const int group = static_cast<int>(p.shape.heads / p.shape.kv_heads);
  const int columns = static_cast<int>(p.wqkv.columns);
  MultiplyPairs<T>(
      static_cast<int>(p.wqkv.rows / 2), columns,
      [&](int pair) {
        const int64_t row = pair / half * dim + pair % half;
        return RowPair<T>{RowOf<T>(p.wqkv, row), RowOf<T>(p.wqkv, row + half)};
      },
      [&](const Shared<float>& partial, const Shared<T>& x) {
        NormToShared(p.x, columns, partial, x);
      },
      [&](int pair, float low, float high) {
        if (Lane() != 0) return;
        const int j = pair % half;
        const int kv = pair / half / (group + 2);
        const int place = pair / half % (group + 2);  // < group: a query, then the key, the value
        if (place <= group) {
          const float cos = Load(p.cos + j);
          const float sin = Load(p.sin + j);
          const float x = low;
          low = x * cos - high * sin;
          high = high * cos + x * sin;
        }
        T* out = static_cast<T*>(p.q) + static_cast<int64_t>(kv * group + place) * dim;
        if (place >= group) {
          void* cache = place == group ? p.k_cache : p.v_cache;
          out = static_cast<T*>(cache) + (Load(p.slot) * p.shape.kv_heads + kv) * dim;
        }
        Store(out + j, FromFloat<T>(low));
        Store(out + j + half, FromFloat<T>(high));
      });
}

template <typename T>
__global__ void __launch_bounds__(kDecodeThreads, 2) DecodeGateUpKernel(DecodeGateUpParams p) {
  const int columns = static_cast<int>(p.w1.columns);
  MultiplyPairs<T>(
      static_cast<int>(p.w1.rows), columns,
      [&](int row) {
        return RowPair<T>{RowOf<T>(p.w1, row), RowOf<T>(p.w3, row)};
      },
      [&](const Shared<float>& partial, const Shared<T>& x) {
        NormToShared(p.x, columns, partial, x);
      },
      [&](int row, float gate, float up) {
        if (Lane() == 0) Store(static_cast<T*>(p.out) + row, FromFloat<T>(Silu(gate) * up));
      });
}

template <typename T>
__global__ void __launch_bounds__(kDecodeThreads, 2) DecodeAddKernel(DecodeAddParams p) {
  const int columns = static_cast<int>(p.weight.columns);
  MultiplyPairs<T>(
      static_cast<int>(p.weight.rows / 2), columns,
      [&](int pair) {
        return RowPair<T>{RowOf<T>(p.weight, 2 * pair), RowOf<T>(p.weight, 2 * pair + 1)};
      },
      [&](const Shared<float>&, const Shared<T>& x) {
        for (int c = 8 * ThreadIndex(); c < columns; c += 8 * BlockThreads()) {
          StoreVector(x, c, LoadVector(static_cast<const T*>(p.x) + c));
        }
      },
      [&](int pair, float first, float second) {
        if (Lane() > 1) return;
        float* hidden = p.hidden + 2 * pair + Lane();
        Store(hidden, Load(hidden) + (Lane() == 0 ? first : second));
      });
}

template <typename T>
__global__ void __launch_bounds__(kDecodeThreads, 2) DecodeLogitsKernel(DecodeLogitsParams p) {
  const int columns = static_cast<int>(p.weight.columns);
  MultiplyPairs<T>(
      static_cast<int>(p.weight.rows / 2), columns,
      [&](int pair) {
        return RowPair<T>{RowOf<T>(p.weight, 2 * pair), RowOf<T>(p.weight, 2 * pair + 1)};
      },
      [&](const Shared<float>& partial, const Shared<T>& x) {
        NormToShared(p.x, columns, partial, x);
      },
      [&](int pair, float first, float second) {
        if (Lane() < 2) Store(p.logits + 2 * pair + Lane(), Lane() == 0 ? first : second);
      });
}

}  // namespace xcomposer::cuda
