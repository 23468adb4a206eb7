#pragma once

#include "kernels/cuda/decode_linear_input.cuh"

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

constexpr int kDecodeWarps = kDecodeThreads / 32;
constexpr int kDecodeSteps = 2;                     // 16-byte copies of each row, lane and stage
constexpr int kDecodeTile = 32 * 8 * kDecodeSteps;  // columns that a warp takes at a time
constexpr int kDecodeStageBytes = 2 * kDecodeSteps * kDecodeThreads * 16;

template <typename T>
struct RowPair {
  const T* first = nullptr;
  const T* second = nullptr;
};

/// The products of eight stored weights, added in their order.
template <typename T>
XCOMPOSER_DEVICE void AddProducts(const Vector16& weights, const float (&inputs)[8], float& sum) {
  float numbers[8];
  Unpack<T>(weights, numbers);
  XCOMPOSER_UNROLL
  for (int k = 0; k < 8; ++k) sum += numbers[k] * inputs[k];
}

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
      Unpack<T>(LoadVector(x, c), inputs);
      AddProducts<T>(LoadVector(slots, Slot(stage, i, 0)), inputs, first);
      AddProducts<T>(LoadVector(slots, Slot(stage, i, 1)), inputs, second);
    }
  }
};

/// How a kernel's work is shared out and brought.
template <int kStages_, int kEarly_, int kWarpsOfPair_>
struct PairSchedule {
  static constexpr bool kBulk = false;
  static constexpr int kThreads = kDecodeThreads;
  static constexpr int kBlocks = 2;  ///< of a multiprocessor
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

/// MultiplyPairs (decode_linear_bulk.cuh) by copies of 16 bytes.
template <typename T, typename Schedule, typename Rows, typename Input, typename Need,
          typename Finish>
XCOMPOSER_DEVICE void MultiplyCopiedPairs(int pairs, int columns, const Rows& rows,
                                          const Input& input, const Need& need,
                                          const Finish& finish) {
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
  input.Fill(
      partial, x, ask_more, [] { WaitCopies<kStages>(); }, [] { SyncThreads(); });
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
      const auto needed = Lane() == 0 ? need(pair) : decltype(need(pair)){};
      float first = 0.0f;
      float second = 0.0f;
      multiply(first, second);
      if (Lane() == 0) finish(pair, needed, first, second);
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

}  // namespace xcomposer::cuda
