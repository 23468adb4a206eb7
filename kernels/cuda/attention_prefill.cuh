#pragma once

#include "kernels/cuda/attention_prefill_warp.cuh"

namespace xcomposer::cuda {

// Flash attention (Dao 2023) with mma.sync: a block takes 64 or 128 rows, each of its four warps 16
// or 32 of them, and goes through the keys 64 at a time. Scores never leave registers. Keys and
// values come to shared memory by asynchronous copies. With 128 rows values arrive while scores are
// computed, the next keys while values are mixed. With 64, where few blocks share a multiprocessor
// and hide each other's waits, a whole tile of keys and values arrives while the one before it is
// worked on: two stages, for twice the shared memory and half of the barriers.
template <int kDim_, int kRowTiles_>
struct PrefillShape {
  static constexpr int kDim = kDim_;
  static constexpr int kRowTiles = kRowTiles_;  ///< of 16 rows, per warp
  static constexpr int kStages = kRowTiles == 1 ? 2 : 1;
  static constexpr int kRows = kPrefillThreads / 32 * 16 * kRowTiles;
  /// What the registers allow on one multiprocessor; looking up places takes some.
  static constexpr int Blocks(bool paged) {
    if (kDim == 128) return kRowTiles == 2 ? 2 : 3;
    return (kRowTiles == 2 ? 3 : 4) - (paged ? 1 : 0);
  }
};

/// Rows past the last repeat it.
template <typename T, typename Shape, typename Source>
XCOMPOSER_DEVICE void CopyQueries(const typename Source::Params& p, const PrefillTile& tile,
                                  const typename Source::Heads& heads, int first_head,
                                  const Shared<T>& to) {
  constexpr int kParts = Shape::kDim / 8;
  const int64_t stride = Source::QueryStride(p);
  const T* from = static_cast<const T*>(p.q) + tile.first_row * stride + first_head * Shape::kDim +
                  ThreadIndex() % kParts * 8;
  XCOMPOSER_UNROLL
  for (int i = 0; i < Shape::kRows * kParts / kPrefillThreads; ++i) {
    const int place = ThreadIndex() / kParts + i * (kPrefillThreads / kParts);
    const int row = Min(place, tile.rows - 1);
    CopyAsync16(to, TileIndex<Shape::kDim>(place, ThreadIndex() % kParts),
                from + heads.Row(row) * stride + heads.Head(row) * Shape::kDim, true);
  }
}

/// A warp stores its own rows only.
template <typename T, typename Shape, typename Source>
XCOMPOSER_DEVICE void StoreRows(const typename Source::Params& p, const PrefillTile& tile,
                                const typename Source::Heads& heads, int first_head, int first_row,
                                const Shared<T>& from) {
  constexpr int kParts = Shape::kDim / 8;
  // Counted in vectors: else the compiler no longer sees that they lie on 16 bytes.
  const int64_t stride = Source::OutStride(p) / 8;
  auto* out = static_cast<Vector16*>(p.out) + tile.first_row * stride + first_head * kParts +
              Lane() % kParts;
  XCOMPOSER_UNROLL
  for (int i = 0; i < 16 * Shape::kRowTiles * kParts / 32; ++i) {
    const int row = first_row + Lane() / kParts + i * (32 / kParts);
    if (row < tile.rows) {
      StoreVector(out + heads.Row(row) * stride + heads.Head(row) * kParts,
                  LoadVector(from, TileIndex<Shape::kDim>(row, Lane() % kParts)));
    }
  }
}

/// Grid: tiles of rows by groups of heads, in one line, heads fastest, which share keys.
template <typename T, typename Shape, typename Source>
__global__ void __launch_bounds__(kPrefillThreads, Shape::Blocks(Source::kCausal))
    PrefillAttentionKernel(PrefillLaunch<typename Source::Params> launch) {
  using Rows = PrefillWarp<T, Shape::kDim, Shape::kRowTiles>;
  constexpr int kTile = kPrefillKeys * Shape::kDim;
  const typename Source::Params& p = launch.problem;
  GridDependencyLaunch();
  GridDependencyWait();
  const int block = Source::kCausal ? InTurns(BlockX(), GridX(), launch.round) : BlockX();
  const int first_head = block % launch.head_groups * launch.heads_per_block;
  const auto locate = [&](PrefillTile& tile) {
    return Source::Locate(p, launch.rows_per_tile, launch.heads_per_block,
                          launch.tiles - 1 - block / launch.head_groups, tile);
  };
  PrefillTile tile;
  if (!locate(tile)) return;
  const typename Source::Heads heads(launch.heads_per_block, launch.reciprocal);
  SharedArena arena;
  const Shared<T> queries = arena.Take<T>(Shape::kRows * Shape::kDim);
  const Shared<T> keys = arena.Take<T>(Shape::kStages * kTile);
  const Shared<T> values = arena.Take<T>(Shape::kStages * kTile);
  const Shared<int> slots = arena.Take<int>(2 * Source::kSlots);
  const auto slots_of = [&](int first) {
    return slots.Part(first / kPrefillKeys % 2 * Source::kSlots, Source::kSlots);
  };
  const auto buffer = [&](const Shared<T>& all, int first) {
    return all.Part(first / kPrefillKeys % Shape::kStages * kTile, kTile);
  };

  Source source(p, tile, first_head);
  CopyQueries<T, Shape, Source>(p, tile, heads, first_head, queries);
  source.Publish(launch, 0, slots_of(0));
  if (Shape::kStages == 2) source.Publish(launch, kPrefillKeys, slots_of(kPrefillKeys));
  if (Source::kSlots > 0) SyncThreads();  // the places of the first keys are known to all
  source.CopyKeys(p, slots_of(0), 0, keys);
  if (Shape::kStages == 2) source.CopyValues(p, slots_of(0), 0, values);
  CommitCopies();

  // From one lane, so that the compiler knows it to be the same in all.
  const int first_row = ShuffleFrom(Warp(), 0) * Rows::kRows;
  Rows warp(queries, first_row);
  const auto end = [&](int row) {
    return Source::kCausal ? Min(tile.seen + heads.Row(row), tile.keys) : tile.keys;
  };
  const int last_row = Min(first_row + Rows::kRows, tile.rows) - 1;
  const bool idle = last_row < first_row;
  const int all_see = idle ? 0 : end(first_row);
  const int any_sees = idle ? 0 : end(last_row);
  for (int first = 0; first < tile.keys; first += kPrefillKeys) {
    const int next = first + kPrefillKeys;
    // This tile's keys (with two stages its values too) have arrived, from all threads' copies;
    // all warps have read the values before them.
    WaitCopies<0>();
    SyncThreads();
    if constexpr (Shape::kStages == 2) {
      if (next < tile.keys) {
        source.CopyKeys(p, slots_of(next), next, buffer(keys, next));
        source.CopyValues(p, slots_of(next), next, buffer(values, next));
      }
      source.Publish(launch, next + kPrefillKeys, slots_of(first));
    } else {
      source.CopyValues(p, slots_of(first), first, values);
      source.Publish(launch, next, slots_of(next));
    }
    CommitCopies();
    typename Rows::Scores scores;
    const bool whole = next <= all_see;
    const int count = any_sees - first;
    if (whole) {
      warp.template Score<true>(buffer(keys, first), kPrefillKeys, scores);
    } else if (count > 0) {
      warp.template Score<false>(buffer(keys, first), count, scores);
      warp.Mask(scores, [&](int row) { return end(row) - first; });
    }
    if constexpr (Shape::kStages == 1) {
      // The values have arrived; all warps have read these keys; the next places are known.
      WaitCopies<0>();
      SyncThreads();
      if (next < tile.keys) source.CopyKeys(p, slots_of(next), next, keys);
      CommitCopies();
    }
    if (count <= 0) continue;
    warp.Weigh(scores);
    if (whole) {
      warp.template Mix<true>(scores, buffer(values, first), kPrefillKeys);
    } else {
      warp.template Mix<false>(scores, buffer(values, first), count);
    }
  }
  if (idle) return;
  SyncWarp();  // all lanes have read the queries, whose places the results take
  warp.Finish();
  SyncWarp();
  locate(tile);  // again, rather than keep it in registers for so long
  StoreRows<T, Shape, Source>(p, tile, heads, first_head, first_row, queries);
}

}  // namespace xcomposer::cuda
