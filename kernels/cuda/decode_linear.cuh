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
// where there is a norm, a sum over it. No kernel writes weights, so that a block asks for them as
// soon as it starts, before the kernel before has ended: stages of 16 KiB, copied to shared memory
// past the registers, of which there are kStages. At two blocks per multiprocessor and six stages
// that is 192 KiB or 5.6 us of a multiprocessor's share of 4.5 TB/s. The last of them are asked for
// after the input: what is under way makes it late, and so it does the end of the kernel before.
// From then on each stage is asked for anew when it was used. A thread reads only what it copied
// itself, so that nothing but its own copies is waited for.

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

  /// `ask_more()` asks for what is not wanted before the row; `arrived()` waits for this thread's
  /// weights of the norm.
  template <typename AskMore, typename Arrived>
  XCOMPOSER_DEVICE void Fill(const Shared<float>& partial, const Shared<T>& x,
                             const AskMore& ask_more, const Arrived& arrived) const {
    constexpr int kStride = 8 * kDecodeThreads;
    const int first = 8 * ThreadIndex();
    // The first numbers stay in registers: all of them, where a row has no more than 4096.
    float kept[kKept][8];
    XCOMPOSER_UNROLL
    for (int k = 0; k < kKept; ++k) {
      LoadEight(row.hidden + Min(first + k * kStride, columns - 8), kept[k]);
    }
    ask_more();
    float squares = 0.0f;
    XCOMPOSER_UNROLL
    for (int k = 0; k < kKept; ++k) {
      if (first + k * kStride < columns) squares += SumOfSquares(kept[k]);
    }
    for (int c = first + kKept * kStride; c < columns; c += kStride) {
      float eight[8];
      LoadEight(row.hidden + c, eight);
      squares += SumOfSquares(eight);
    }
    const float mean = BlockSum(squares, partial) / static_cast<float>(columns);
    const float factor = ReciprocalRoot(mean + row.eps);
    arrived();
    XCOMPOSER_UNROLL
    for (int k = 0; k < kKept; ++k) {
      if (first + k * kStride < columns) Scale(kept[k], factor, x, first + k * kStride);
    }
    for (int c = first + kKept * kStride; c < columns; c += kStride) {
      float eight[8];
      LoadEight(row.hidden + c, eight);
      Scale(eight, factor, x, c);
    }
  }

 private:
  static constexpr int kKept = 2;

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

  template <typename AskMore, typename Arrived>
  XCOMPOSER_DEVICE void Fill(const Shared<float>&, const Shared<T>& x, const AskMore& ask_more,
                             const Arrived&) const {
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

template <typename T>
XCOMPOSER_DEVICE const T* RowOf(const WeightMatrix& weight, int64_t row) {
  return static_cast<const T*>(weight.data) + row * weight.row_stride;
}

/// How a kernel's work is shared out and brought.
template <int kStages_, int kEarly_, int kWarpsOfPair_>
struct PairSchedule {
  static constexpr int kStages = kStages_;
  /// Stages that are asked for before the kernel before has ended.
  static constexpr int kEarly = kEarly_ < kStages_ ? kEarly_ : kStages_;
  /// Warps that share the columns of a pair, so that warps with one pair more than others have less
  /// to do on top.
  static constexpr int kWarpsOfPair = kWarpsOfPair_;
  static constexpr int kPairs = kDecodeWarps / kWarpsOfPair_;  ///< of a block at a time
};

/// One warp's weights: the stages that it asks for and works on, pair after pair.
template <typename T, typename Schedule, typename Rows>
struct PairWalk {
  const WeightStages<T>& stages;
  const Rows& rows;
  int pairs;
  int stride;  // from pair to pair
  int begin;   // this warp's columns
  int end;
  int asked;  // the pair and the column that are asked for next
  int asked_begin;
  RowPair<T> asked_rows{};

  XCOMPOSER_DEVICE PairWalk(const WeightStages<T>& stages, const Rows& rows, int pairs, int columns)
      : stages(stages), rows(rows), pairs(pairs), stride(GridX() * Schedule::kPairs) {
    constexpr int kShare = Schedule::kWarpsOfPair;
    const int tiles = (columns + kShare * kDecodeTile - 1) / (kShare * kDecodeTile);
    begin = Warp() % kShare * tiles * kDecodeTile;
    end = Min(begin + tiles * kDecodeTile, columns);
    asked = First();
    asked_begin = begin;
  }

  XCOMPOSER_DEVICE int First() const {
    return BlockX() * Schedule::kPairs + Warp() / Schedule::kWarpsOfPair;
  }

  XCOMPOSER_DEVICE void Ask(int stage) {
    if (asked < pairs) {
      if (asked_begin == begin) asked_rows = rows(asked);
      stages.Copy(stage, asked_rows, asked_begin, end);
      asked_begin += kDecodeTile;
      if (asked_begin >= end) {
        asked_begin = begin;
        asked += stride;
      }
    }
    CommitCopies();  // a group for each stage, though it may be empty
  }
};

/// What a kernel does, given how it numbers its row pairs (`rows`), how it gets its input, what
/// else it needs for a pair's results (`need`, asked for while the products are formed), and what
/// it makes of them (`finish`). Both are called by all lanes of a warp for its pair, or where warps
/// share pairs, by one thread for each pair.
template <typename T, typename Schedule, typename Rows, typename Input, typename Need,
          typename Finish>
XCOMPOSER_DEVICE void MultiplyPairs(int pairs, int columns, const Rows& rows, const Input& input,
                                    const Need& need, const Finish& finish) {
  constexpr int kStages = Schedule::kStages;
  GridDependencyLaunch();
  SharedArena arena;
  const Shared<float> partial = arena.Take<float>(kDecodeWarps);
  const Shared<T> x = arena.Take<T>(columns);
  const WeightStages<T> stages{
      arena.Take<T>(kStages * kDecodeStageBytes / static_cast<int>(sizeof(T)))};
  PairWalk<T, Schedule, Rows> walk(stages, rows, pairs, columns);
  input.CopyWeights(x);
  CommitCopies();
  XCOMPOSER_UNROLL
  for (int stage = 0; stage < Schedule::kEarly; ++stage) walk.Ask(stage);
  GridDependencyWait();
  const auto ask_more = [&] {
    XCOMPOSER_UNROLL
    for (int stage = Schedule::kEarly; stage < kStages; ++stage) walk.Ask(stage);
  };
  input.Fill(partial, x, ask_more, [] { WaitCopies<kStages>(); });
  SyncThreads();  // the whole input is there before any warp multiplies with it

  int stage = 0;
  const auto multiply = [&](float& first, float& second) {
    for (int begin = walk.begin; begin < walk.end; begin += kDecodeTile) {
      WaitCopies<kStages - 1>();  // the oldest stage's
      stages.Multiply(stage, x, begin, walk.end, first, second);
      walk.Ask(stage);
      stage = stage + 1 < kStages ? stage + 1 : 0;
    }
    first = WarpSum(first);
    second = WarpSum(second);
  };
  if constexpr (Schedule::kWarpsOfPair == 1) {
    for (int pair = walk.First(); pair < pairs; pair += walk.stride) {
      const auto needed = need(pair);
      float first = 0.0f;
      float second = 0.0f;
      multiply(first, second);
      finish(pair, needed, first, second);
    }
  } else {
    // Parts of the block's pairs: (turns, warps, first and second).
    const Shared<float> parts =
        arena.Take<float>(2 * kDecodeWarps * ((pairs + walk.stride - 1) / walk.stride));
    const int first_pair = BlockX() * Schedule::kPairs;
    const auto pair_of = [&](int i) {
      return first_pair + i / Schedule::kPairs * walk.stride + i % Schedule::kPairs;
    };
    auto needed = need(Min(pair_of(ThreadIndex()), pairs - 1));
    int at = 2 * Warp();
    for (int pair = walk.First(); pair < pairs; pair += walk.stride) {
      float first = 0.0f;
      float second = 0.0f;
      multiply(first, second);
      if (Lane() == 0) {
        parts[at] = first;
        parts[at + 1] = second;
      }
      at += 2 * kDecodeWarps;
    }
    SyncThreads();  // all warps' parts are there before they are put together
    for (int i = ThreadIndex(); pair_of(i) < pairs; i += kDecodeThreads) {
      if (i >= kDecodeThreads) needed = need(pair_of(i));
      float sums[2] = {0.0f, 0.0f};
      XCOMPOSER_UNROLL
      for (int k = 0; k < 2 * Schedule::kWarpsOfPair; ++k) {
        sums[k % 2] += parts[2 * Schedule::kWarpsOfPair * i + k];
      }
      finish(pair_of(i), needed, sums[0], sums[1]);
    }
  }
}

struct QkvNeeds {
  float cos;
  float sin;
  int64_t slot;
};

// Stages that are asked for early, as they were fastest on an H100 and an H200: most of what there
// is, less for wo, which comes while attention waits for keys. w2 has a long input and five stages.
constexpr int kEarlyBeforeNorm = 5;
template <int kStages>
constexpr int kEarlyOfAdd = kStages == 5 ? 4 : 3;

template <int kStages>
using QkvSchedule = PairSchedule<kStages, kEarlyBeforeNorm, 2>;

template <typename T, int kStages>
__global__ void __launch_bounds__(kDecodeThreads, 2) DecodeQkvKernel(DecodeQkvParams p) {
  const int dim = static_cast<int>(p.shape.head_dim);
  const int half = dim / 2;
  const int group = static_cast<int>(p.shape.heads / p.shape.kv_heads);
  const int columns = static_cast<int>(p.wqkv.columns);
  MultiplyPairs<T, QkvSchedule<kStages>>(
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

template <typename T, int kStages>
__global__ void __launch_bounds__(kDecodeThreads, 2) DecodeGateUpKernel(DecodeGateUpParams p) {
  const int columns = static_cast<int>(p.w1.columns);
  MultiplyPairs<T, PairSchedule<kStages, kEarlyBeforeNorm, 1>>(
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
  MultiplyPairs<T, PairSchedule<kStages, kEarlyOfAdd<kStages>, 1>>(
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
  MultiplyPairs<T, PairSchedule<kStages, kEarlyBeforeNorm, 1>>(
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
