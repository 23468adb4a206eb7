#pragma once

#include "kernels/cuda/decode_linear_pairs.cuh"
#include "kernels/cuda/device_hopper.cuh"

namespace xcomposer::cuda {

// Pairs of rows as in decode_linear_pairs.cuh, where memory can be copied in bulk (compute
// capability 9.0). One thread of a warp asks for 2 KiB of each of two rows, which memory gives
// faster than as many bytes in copies of 16. One block has a multiprocessor to itself. Most of its
// warps multiply: each has a ring of its own, of which a stage is asked for anew as soon as it is
// in registers, so that memory does not wait for products. The others bring the input, and at the
// end make of the sums what is wanted.
//
// Copies that are under way delay whatever memory is asked for after them: the last writes of the
// kernel before, and the input. Until its ring is full, therefore, a warp asks for a stage when the
// one before has come. That need not be waited for with the input: other warps bring it.
struct BulkSchedule {
  static constexpr bool kBulk = true;
  static constexpr int kStages = 3;
  static constexpr int kWarps = 16;  ///< that multiply
  static constexpr int kThreads = kDecodeThreads + 32 * kWarps;
  static constexpr int kBlocks = 1;              ///< of a multiprocessor
  static constexpr int kSteps = 4;               ///< 16 bytes of each row and lane
  static constexpr int kTile = 32 * 8 * kSteps;  ///< columns of a stage
  static constexpr int kStageBytes = 2 * kTile * 2;
  /// One when the input is there, one when the sums are, one for each stage.
  static constexpr int kBarriers = 2 + kWarps * kStages;
  static constexpr int kAlignment = 128;  ///< of the stages: others are filled more slowly
};

/// One warp's stages: two rows each.
template <typename T, typename Schedule, typename Rows>
struct BulkWalk {
  static constexpr int kTile = Schedule::kTile;

  Shared<T> ring;
  Shared<uint64_t> full;
  const Rows& rows;
  int pairs;
  int columns;
  int stride;  // from pair to pair
  int first;   // pair
  int asked;   // the pair and the column that are asked for next
  int asked_begin = 0;
  RowPair<T> asked_rows{};

  XCOMPOSER_DEVICE BulkWalk(const Shared<T>& rings, const Shared<uint64_t>& barriers,
                            const Rows& rows, int warp, int pairs, int columns)
      : ring(rings.Part(warp * Schedule::kStages * 2 * kTile, Schedule::kStages * 2 * kTile)),
        full(barriers.Part(warp * Schedule::kStages, Schedule::kStages)),
        rows(rows),
        pairs(pairs),
        columns(columns),
        stride(GridX() * Schedule::kWarps),
        first(BlockX() * Schedule::kWarps + warp),
        asked(first) {
    if (Lane() == 0) {
      XCOMPOSER_UNROLL
      for (int stage = 0; stage < Schedule::kStages; ++stage) BarrierInit(full, stage, 1);
      BarriersReady();
    }
    SyncWarp();  // the barriers are there before any lane waits for one
  }

  XCOMPOSER_DEVICE void Ask(int stage) {
    if (asked >= pairs) return;
    if (asked_begin == 0) asked_rows = rows(asked);
    if (Lane() == 0) {
      const int bytes = 2 * Min(kTile, columns - asked_begin);
      BarrierArriveExpecting(full, stage, 2 * bytes);
      CopyBulkStream(ring, 2 * stage * kTile, asked_rows.first + asked_begin, bytes, full, stage);
      CopyBulkStream(ring, (2 * stage + 1) * kTile, asked_rows.second + asked_begin, bytes, full,
                     stage);
    }
    asked_begin += kTile;
    if (asked_begin >= columns) {
      asked_begin = 0;
      asked += stride;
    }
  }
};

/// MultiplyPairs by copies in bulk.
template <typename T, typename Schedule, typename Rows, typename Input, typename Need,
          typename Finish>
XCOMPOSER_DEVICE void MultiplyBulkPairs(int pairs, int columns, const Rows& rows,
                                        const Input& input, const Need& need,
                                        const Finish& finish) {
  constexpr int kStages = Schedule::kStages;
  constexpr int kSteps = Schedule::kSteps;
  constexpr int kTile = Schedule::kTile;
  constexpr int kWarps = Schedule::kWarps;
  constexpr int kOfInput = 1;             // named barrier
  enum { kInput, kSums, kFirstOfRings };  // barriers in shared memory
  GridDependencyLaunch();
  SharedArena arena;
  arena.Align(Schedule::kAlignment);
  const Shared<T> rings = arena.Take<T>(kWarps * kStages * 2 * kTile);
  const Shared<uint64_t> barriers = arena.Take<uint64_t>(Schedule::kBarriers);
  const Shared<float> partial = arena.Take<float>(kDecodeThreads / 32);
  const Shared<T> x = arena.Take<T>(columns);
  // Of the block's pairs: (turns, warps, first and second).
  const int turn = GridX() * kWarps;
  const Shared<float> sums = arena.Take<float>(2 * kWarps * ((pairs + turn - 1) / turn));
  const auto pair_of = [&](int i) { return BlockX() * kWarps + i / kWarps * turn + i % kWarps; };
  if (ThreadIndex() == 0) {
    BarrierInit(barriers, kInput, kDecodeThreads);
    BarrierInit(barriers, kSums, kWarps);
  }
  SyncThreads();  // both are there before any thread uses them
  if (ThreadIndex() < kDecodeThreads) {
    input.CopyWeights(x);
    CommitCopies();
    GridDependencyWait();
    input.Fill(
        partial, x, [] {}, [] { WaitCopies<0>(); },
        [] { NamedBarrierSync(kOfInput, kDecodeThreads); });
    BarrierArrive(barriers, kInput);
    decltype(need(0)) needed{};
    if (pair_of(ThreadIndex()) < pairs) needed = need(pair_of(ThreadIndex()));
    // All sums are there before anything is made of them.
    BarrierWait(barriers, kSums, 0);
    for (int i = ThreadIndex(); pair_of(i) < pairs; i += kDecodeThreads) {
      if (i >= kDecodeThreads) needed = need(pair_of(i));
      finish(pair_of(i), needed, sums[2 * i], sums[2 * i + 1]);
    }
    return;
  }
  const int warp = Warp() - kDecodeThreads / 32;
  BulkWalk<T, Schedule, Rows> walk(rings, barriers.Part(kFirstOfRings, kWarps * kStages), rows,
                                   warp, pairs, columns);
  XCOMPOSER_UNROLL
  for (int stage = 0; stage < kStages; ++stage) {
    if (stage > 0 && walk.asked < pairs) BarrierWait(walk.full, stage - 1, 0);
    walk.Ask(stage);
  }
  GridDependencyWait();
  // The whole input is there before any warp multiplies with it.
  BarrierWait(barriers, kInput, 0);
  int stage = 0;
  int parity = 0;
  int at = 2 * warp;
  for (int pair = walk.first; pair < pairs; pair += walk.stride) {
    float first = 0.0f;
    float second = 0.0f;
    for (int begin = 0; begin < columns; begin += kTile) {
      BarrierWait(walk.full, stage, parity);
      Vector16 weights[2][kSteps];
      XCOMPOSER_UNROLL
      for (int row = 0; row < 2; ++row) {
        XCOMPOSER_UNROLL
        for (int i = 0; i < kSteps; ++i) {
          const int c = (i * 32 + Lane()) * 8;
          if (begin + c >= columns) break;
          weights[row][i] = LoadVector(walk.ring, (2 * stage + row) * kTile + c);
        }
      }
      SyncWarp();  // all lanes have read the stage before it is filled anew
      walk.Ask(stage);
      XCOMPOSER_UNROLL
      for (int i = 0; i < kSteps; ++i) {
        const int c = begin + (i * 32 + Lane()) * 8;
        if (c >= columns) break;
        float inputs[8];
        Unpack<T>(LoadVector(x, c), inputs);
        AddProducts<T>(weights[0][i], inputs, first);
        AddProducts<T>(weights[1][i], inputs, second);
      }
      stage = stage + 1 < kStages ? stage + 1 : 0;
      if (stage == 0) parity ^= 1;
    }
    first = WarpSum(first);
    second = WarpSum(second);
    if (Lane() == 0) {
      sums[at] = first;
      sums[at + 1] = second;
    }
    at += 2 * kWarps;
  }
  if (Lane() == 0) BarrierArrive(barriers, kSums);  // which has written all of the warp's
}

/// What a kernel does, given how it numbers its row pairs (`rows`), how it gets its input, what
/// else it needs for a pair's results (`need`, asked for while the products are formed), and what
/// it makes of them (`finish`). Both are called by one thread for each pair.
template <typename T, typename Schedule, typename Rows, typename Input, typename Need,
          typename Finish>
XCOMPOSER_DEVICE void MultiplyPairs(int pairs, int columns, const Rows& rows, const Input& input,
                                    const Need& need, const Finish& finish) {
  if constexpr (!Schedule::kBulk) {
    MultiplyCopiedPairs<T, Schedule>(pairs, columns, rows, input, need, finish);
  } else {
#ifdef XCOMPOSER_WARPGROUP_PRODUCTS
    MultiplyBulkPairs<T, Schedule>(pairs, columns, rows, input, need, finish);
#endif
  }
}

}  // namespace xcomposer::cuda
