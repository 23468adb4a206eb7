#pragma once

#include "kernels/cuda/decode_linear_bulk.cuh"
#include "kernels/cuda/elementwise.cuh"

namespace xcomposer::cuda {

/// For products whose results need nothing else.
struct NeedsNothing {
  struct Nothing {};
  XCOMPOSER_DEVICE Nothing operator()(int) const { return {}; }
};

template <typename T>
XCOMPOSER_DEVICE const T* RowOf(const WeightMatrix& weight, int64_t row) {
  return static_cast<const T*>(weight.data) + row * weight.row_stride;
}

struct QkvNeeds {
  float cos;
  float sin;
  int64_t slot;
};

struct AddNeeds {
  float first;
  float second;
};

template <typename T, typename Schedule>
__global__ void __launch_bounds__(Schedule::kThreads, Schedule::kBlocks)
    DecodeQkvKernel(DecodeQkvParams p) {
  const int dim = static_cast<int>(p.shape.head_dim);
  const int half = dim / 2;
  const int group = static_cast<int>(p.shape.heads / p.shape.kv_heads);
  const int columns = static_cast<int>(p.wqkv.columns);
  MultiplyPairs<T, Schedule>(
      static_cast<int>(p.wqkv.rows / 2), columns,
      [&](int pair) {
        const int64_t row = pair / half * dim + pair % half;
        return RowPair<T>{RowOf<T>(p.wqkv, row), RowOf<T>(p.wqkv, row + half)};
      },
      NormedInput<T>{p.x, columns},
      [&](int pair) {
        const int j = pair % half;
        return QkvNeeds{Load(p.cos + j), Load(p.sin + j), Load(p.slot)};
      },
      [&](int pair, const QkvNeeds& needed, float low, float high) {
        const int j = pair % half;
        const int kv = pair / half / (group + 2);
        const int place = pair / half % (group + 2);  // < group: a query, then the key, the value
        if (place <= group) {
          const float x = low;
          low = x * needed.cos - high * needed.sin;
          high = high * needed.cos + x * needed.sin;
        }
        T* out = static_cast<T*>(p.q) + static_cast<int64_t>(kv * group + place) * dim;
        if (place >= group) {
          void* cache = place == group ? p.k_cache : p.v_cache;
          out = static_cast<T*>(cache) + (needed.slot * p.shape.kv_heads + kv) * dim;
        }
        Store(out + j, FromFloat<T>(low));
        Store(out + j + half, FromFloat<T>(high));
      });
}

template <typename T, typename Schedule>
__global__ void __launch_bounds__(Schedule::kThreads, Schedule::kBlocks)
    DecodeGateUpKernel(DecodeGateUpParams p) {
  const int columns = static_cast<int>(p.w1.columns);
  MultiplyPairs<T, Schedule>(
      static_cast<int>(p.w1.rows), columns,
      [&](int row) {
        return RowPair<T>{RowOf<T>(p.w1, row), RowOf<T>(p.w3, row)};
      },
      NormedInput<T>{p.x, columns}, NeedsNothing{},
      [&](int row, NeedsNothing::Nothing, float gate, float up) {
        Store(static_cast<T*>(p.out) + row, FromFloat<T>(Silu(gate) * up));
      });
}

template <typename T, typename Schedule>
__global__ void __launch_bounds__(Schedule::kThreads, Schedule::kBlocks)
    DecodeAddKernel(DecodeAddParams p) {
  const int columns = static_cast<int>(p.weight.columns);
  MultiplyPairs<T, Schedule>(
      static_cast<int>(p.weight.rows / 2), columns,
      [&](int pair) {
        return RowPair<T>{RowOf<T>(p.weight, 2 * pair), RowOf<T>(p.weight, 2 * pair + 1)};
      },
      StoredInput<T>{static_cast<const T*>(p.x), columns},
      [&](int pair) {
        return AddNeeds{Load(p.hidden + 2 * pair), Load(p.hidden + 2 * pair + 1)};
      },
      [&](int pair, const AddNeeds& before, float first, float second) {
        Store(p.hidden + 2 * pair, before.first + first);
        Store(p.hidden + 2 * pair + 1, before.second + second);
      });
}

template <typename T, typename Schedule>
__global__ void __launch_bounds__(Schedule::kThreads, Schedule::kBlocks)
    DecodeLogitsKernel(DecodeLogitsParams p) {
  const int columns = static_cast<int>(p.weight.columns);
  MultiplyPairs<T, Schedule>(
      static_cast<int>(p.weight.rows / 2), columns,
      [&](int pair) {
        return RowPair<T>{RowOf<T>(p.weight, 2 * pair), RowOf<T>(p.weight, 2 * pair + 1)};
      },
      NormedInput<T>{p.x, columns}, NeedsNothing{},
      [&](int pair, NeedsNothing::Nothing, float first, float second) {
        Store(p.logits + 2 * pair, first);
        Store(p.logits + 2 * pair + 1, second);
      });
}

}  // namespace xcomposer::cuda
