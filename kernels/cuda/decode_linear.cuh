#pragma once

#include "kernels/cuda/decode_linear.h"
#include "kernels/cuda/elementwise.cuh"
#include "kernels/cuda/vector.cuh"

namespace xcomposer::cuda {

// Matrix times vector, two rows of the matrix per warp: a rotary pair, a gate and its up, or
// neighbours. One row's result needs the whole input, which the block keeps in shared memory,
// stored as the weights are: 8 products cost one 16-byte load from either side.
//
// Memory is what limits this, and the time in which it stands still: from the last loads of one
// kernel to the first of the next lie the end of the first, the input's way to all blocks and,
// where there is a norm, a sum over it. No kernel writes weights, so that a block asks for as many
// as it has room for as soon as it starts, before the kernel before has ended: kStages stages of 16
// KiB, copied to shared memory past the registers. At two blocks per multiprocessor and six stages
// that is 192 KiB or 5.6 us of a multiprocessor's share of 4.5 TB/s. From then on each stage is
// asked for anew when it was used. A thread reads only what it copied itself, so that nothing but
// its own copies is waited for.

constexpr int kDecodeThreads = 256;
constexpr int kDecodeWarps = kDecodeThreads / 32;
constexpr int kDecodeSteps = 2;                     // 16-byte copies of each row, lane and stage
constexpr int kDecodeTile = 32 * 8 * kDecodeSteps;  // columns that a warp takes at a time
constexpr int kDecodeStageBytes = 2 * kDecodeSteps * kDecodeThreads * 16;

template <typename T>
struct RowPair {
  const T* first = nullptr;
  const T* second = nullptr;
};

/// The stages of one thread: slots of 8 numbers, (stage, step, row, thread).
template <typename T>
struct WeightStages {
  Shared<T> slots;

  XCOMPOSER_DEVICE int Slot(int stage, int step, int row) const {
    return (((stage * kDecodeSteps + step) * 2 + row) * kDecodeThreads + ThreadIndex()) * 8;
  }

  XCOMPOSER_DEVICE void Copy(int stage, const RowPair<T>& rows, int begin, int columns) const {
    XCOMPOSER_UNROLL
    for (int i = 0; i < kDecodeSteps; ++i) {
      const int c = begin + (i * 32 + Lane()) * 8;
      if (c >= columns) continue;
      CopyAsync16(slots, Slot(stage, i, 0), rows.first + c, true);
      CopyAsync16(slots, Slot(stage, i, 1), rows.second + c, true);
    }
  }

  XCOMPOSER_DEVICE void Multiply(int stage, const Shared<T>& x, int begin, int columns,
                                 float& first, float& second) const {
    XCOMPOSER_UNROLL
    for (int i = 0; i < kDecodeSteps; ++i) {
      const int c = begin + (i * 32 + Lane()) * 8;
      if (c >= columns) continue;
      float inputs[8];
      float weights[8];
      Unpack<T>(LoadVector(x, c), inputs);
      Unpack<T>(LoadVector(slots, Slot(stage, i, 0)), weights);
      XCOMPOSER_UNROLL
      for (int k = 0; k < 8; ++k) first += weights[k] * inputs[k];
      Unpack<T>(LoadVector(slots, Slot(stage, i, 1)), weights);
      XCOMPOSER_UNROLL
      for (int k = 0; k < 8; ++k) second += weights[k] * inputs[k];
    }
  }
};

/// For products whose results need nothing else.
struct NeedsNothing {
  struct Nothing {};
  XCOMPOSER_DEVICE Nothing operator()(int) const { return {}; }
};

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

  /// This thread's weights of the norm are there.
  XCOMPOSER_DEVICE void Fill(const Shared<float>& partial, const Shared<T>& x) const {
    float squares = 0.0f;
    constexpr int kStride = 8 * kDecodeThreads;
    for (int c = 8 * ThreadIndex(); c < columns; c += 2 * kStride) {
      // Both loads are on their way before either is waited for.
      const bool two = c + kStride < columns;
      float eight[2][8];
      LoadEight(row.hidden + c, eight[0]);
      LoadEight(row.hidden + (two ? c + kStride : c), eight[1]);
      XCOMPOSER_UNROLL
      for (int i = 0; i < 8; ++i) squares += eight[0][i] * eight[0][i];
      if (!two) break;
      XCOMPOSER_UNROLL
      for (int i = 0; i < 8; ++i) squares += eight[1][i] * eight[1][i];
    }
    const float mean = BlockSum(squares, partial) / static_cast<float>(columns);
    const float factor = ReciprocalRoot(mean + row.eps);
    for (int c = 8 * ThreadIndex(); c < columns; c += kStride) {
      float eight[8];
      float weight[8];
      LoadEight(row.hidden + c, eight);
      Unpack<T>(LoadVector(x, c), weight);
      XCOMPOSER_UNROLL
      for (int i = 0; i < 8; ++i) eight[i] = eight[i] * factor * weight[i];
      StoreVector(x, c, PackVector<T>(eight));
    }
  }
};

/// x as it is stored.
template <typename T>
struct StoredInput {
  const T* stored;
  int columns;

  XCOMPOSER_DEVICE void CopyWeights(const Shared<T>&) const {}

  XCOMPOSER_DEVICE void Fill(const Shared<float>&, const Shared<T>& x) const {
    constexpr int kStride = 8 * kDecodeThreads;
    constexpr int kAtOnce = 8;
    for (int first = 8 * ThreadIndex(); first < columns; first += kAtOnce * kStride) {
      Vector16 some[kAtOnce];
      XCOMPOSER_UNROLL
      for (int i = 0; i < kAtOnce; ++i) {
        some[i] = LoadVector(stored + Min(first + i * kStride, columns - 8));
      }
      XCOMPOSER_UNROLL
      for (int i = 0; i < kAtOnce; ++i) {
        if (first + i * kStride < columns) StoreVector(x, first + i * kStride, some[i]);
      }
    }
  }
};

template <typename T>
XCOMPOSER_DEVICE const T* RowOf(const WeightMatrix& weight, int64_t row) {
  return static_cast<const T*>(weight.data) + row * weight.row_stride;
}

/// What a kernel does, given how it numbers its row pairs (`rows`), how it gets its input, what
/// else it needs for a pair's results (`need`, asked for while the products are formed), and what
/// it makes of them (`finish`); both are called by every lane.
template <typename T, int kStages, typename Rows, typename Input, typename Need, typename Finish>
XCOMPOSER_DEVICE void MultiplyPairs(int pairs, int columns, const Rows& rows, const Input& input,
                                    const Need& need, const Finish& finish) {
  GridDependencyLaunch();
  SharedArena arena;
  const Shared<float> partial = arena.Take<float>(kDecodeWarps);
  const Shared<T> x = arena.Take<T>(columns);
  const WeightStages<T> stages{
      arena.Take<T>(kStages * kDecodeStageBytes / static_cast<int>(sizeof(T)))};
  const int stride = GridX() * kDecodeWarps;
  const int first_pair = BlockX() * kDecodeWarps + Warp();
  int asked = first_pair;  // the pair and the column that are asked for next
  int asked_begin = 0;
  RowPair<T> asked_rows{};
  const auto ask = [&](int stage) {
    if (asked < pairs) {
      if (asked_begin == 0) asked_rows = rows(asked);
      stages.Copy(stage, asked_rows, asked_begin, columns);
      asked_begin += kDecodeTile;
      if (asked_begin >= columns) {
        asked_begin = 0;
        asked += stride;
      }
    }
    CommitCopies();  // a group for each stage, though it may be empty
  };
  input.CopyWeights(x);
  CommitCopies();
  for (int stage = 0; stage < kStages; ++stage) ask(stage);
  GridDependencyWait();
  WaitCopies<kStages>();  // this thread's weights of the norm
  input.Fill(partial, x);
  SyncThreads();  // the whole input is there before any warp multiplies with it
  int stage = 0;
  for (int pair = first_pair; pair < pairs; pair += stride) {
    const auto needed = need(pair);
    float first = 0.0f;
    float second = 0.0f;
    for (int begin = 0; begin < columns; begin += kDecodeTile) {
      WaitCopies<kStages - 1>();  // the oldest stage's
      stages.Multiply(stage, x, begin, columns, first, second);
      ask(stage);
      stage = stage + 1 < kStages ? stage + 1 : 0;
    }
    finish(pair, needed, WarpSum(first), WarpSum(second));
  }
}

struct QkvNeeds {
  float cos;
  float sin;
  int64_t slot;
};

template <typename T, int kStages>
__global__ void __launch_bounds__(kDecodeThreads, 2) DecodeQkvKernel(DecodeQkvParams p) {
  const int dim = static_cast<int>(p.shape.head_dim);
  const int half = dim / 2;
  const int group = static_cast<int>(p.shape.heads / p.shape.kv_heads);
  const int columns = static_cast<int>(p.wqkv.columns);
  MultiplyPairs<T, kStages>(
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
        if (Lane() != 0) return;
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

template <typename T, int kStages>
__global__ void __launch_bounds__(kDecodeThreads, 2) DecodeGateUpKernel(DecodeGateUpParams p) {
  const int columns = static_cast<int>(p.w1.columns);
  MultiplyPairs<T, kStages>(
      static_cast<int>(p.w1.rows), columns,
      [&](int row) {
        return RowPair<T>{RowOf<T>(p.w1, row), RowOf<T>(p.w3, row)};
      },
      NormedInput<T>{p.x, columns}, NeedsNothing{},
      [&](int row, NeedsNothing::Nothing, float gate, float up) {
        if (Lane() == 0) Store(static_cast<T*>(p.out) + row, FromFloat<T>(Silu(gate) * up));
      });
}

template <typename T, int kStages>
__global__ void __launch_bounds__(kDecodeThreads, 2) DecodeAddKernel(DecodeAddParams p) {
  const int columns = static_cast<int>(p.weight.columns);
  MultiplyPairs<T, kStages>(
      static_cast<int>(p.weight.rows / 2), columns,
      [&](int pair) {
        return RowPair<T>{RowOf<T>(p.weight, 2 * pair), RowOf<T>(p.weight, 2 * pair + 1)};
      },
      StoredInput<T>{static_cast<const T*>(p.x), columns},
      [&](int pair) { return Lane() > 1 ? 0.0f : Load(p.hidden + 2 * pair + Lane()); },
      [&](int pair, float before, float first, float second) {
        if (Lane() > 1) return;
        Store(p.hidden + 2 * pair + Lane(), before + (Lane() == 0 ? first : second));
      });
}

template <typename T, int kStages>
__global__ void __launch_bounds__(kDecodeThreads, 2) DecodeLogitsKernel(DecodeLogitsParams p) {
  const int columns = static_cast<int>(p.weight.columns);
  MultiplyPairs<T, kStages>(
      static_cast<int>(p.weight.rows / 2), columns,
      [&](int pair) {
        return RowPair<T>{RowOf<T>(p.weight, 2 * pair), RowOf<T>(p.weight, 2 * pair + 1)};
      },
      NormedInput<T>{p.x, columns}, NeedsNothing{},
      [&](int pair, NeedsNothing::Nothing, float first, float second) {
        if (Lane() < 2) Store(p.logits + 2 * pair + Lane(), Lane() == 0 ? first : second);
      });
}

}  // namespace xcomposer::cuda
