#pragma once

#include "kernels/cuda/attention_warpgroup.h"
#include "kernels/cuda/attention_warpgroup_rows.cuh"

namespace xcomposer::cuda {

// Flash attention with products of warpgroups, as FlashAttention-3 (Shah et al. 2024) shares out
// the work: the first warpgroup of a block only brings keys and values, through a ring of tiles of
// 128 keys; each other one has 64 rows. Scores of a tile are on their way to the tensor cores
// together with the values of the tile before it, whose weights are ready, and while one warpgroup
// turns scores into weights the other one's products run: they take turns in beginning them.
template <int kDim_>
struct WarpgroupShape {
  static constexpr int kDim = kDim_;
  static constexpr int kGroups = kWarpgroupRows / 64;  ///< that have rows
  static constexpr int kThreads = kWarpgroup * (1 + kGroups);
  static constexpr int kSlots = 6;  ///< tiles of keys or values in the ring
  // The block has all of a multiprocessor's registers: 168 of each thread, dealt out anew.
  static constexpr int kProducerRegisters = 40;
  static constexpr int kConsumerRegisters = 232;
};

// Numbers of named barriers; 0 is SyncThreads.
constexpr int kFirstTurn = 1;                                  // of each group with rows
constexpr int kFirstGroup = kFirstTurn + kWarpgroupRows / 64;  // likewise

/// A group with rows, from its queries to its results.
template <typename T, typename Shape, typename Source>
class WarpgroupConsumer {
 public:
  using Params = typename Source::Params;
  using Rows = WarpgroupRows<T, Shape::kDim>;
  static constexpr int kParts = Shape::kDim / 8;
  static constexpr int kTile = kWarpgroupKeys * Shape::kDim;

  /// `queries`: room for the group's rows. `active` of the block's groups have any.
  XCOMPOSER_DEVICE WarpgroupConsumer(const Shared<T>& queries, const Shared<T>& ring,
                                     const Shared<uint64_t>& full, const Shared<uint64_t>& empty,
                                     int group, int active)
      : queries_(queries),
        ring_(ring),
        full_(full),
        empty_(empty),
        group_(group),
        active_(active) {}

  XCOMPOSER_DEVICE void CopyQueries(const Params& p, const PrefillTile& tile,
                                    const typename Source::Heads& heads, int first_head) const {
    const int64_t stride = Source::QueryStride(p);
    const int part = ThreadIndex() % kParts;
    const T* from =
        static_cast<const T*>(p.q) + tile.first_row * stride + first_head * Shape::kDim + part * 8;
    XCOMPOSER_UNROLL
    for (int i = 0; i < Rows::kRows * kParts / kWarpgroup; ++i) {
      const int place = ThreadIndex() % kWarpgroup / kParts + i * (kWarpgroup / kParts);
      const int row = Min(group_ * Rows::kRows + place, tile.rows - 1);
      CopyAsync16(queries_, PanelIndex<Rows::kRows>(place, part),
                  from + heads.Row(row) * stride + heads.Head(row) * Shape::kDim, true);
    }
    CommitCopies();
    WaitCopies<0>();
    ProductFence();
    SyncGroup();  // all rows are there, and products see them
  }

  /// `end(r)`: the first key that row r of the tile does not see.
  template <typename End>
  XCOMPOSER_DEVICE void Attend(Rows& rows, int tiles, const End& end) {
    const uint64_t queries = PanelDescriptor<Rows::kRows>(SharedAddress(queries_, 0));
    const int first_row = group_ * Rows::kRows;
    const int all_see = end(first_row);
    typename Rows::Scores scores;
    const auto weigh = [&](int tile) {
      const int first = tile * kWarpgroupKeys;
      if (first + kWarpgroupKeys > all_see) {
        Rows::Mask(scores, [&](int row) { return end(first_row + row) - first; });
      }
      rows.Weigh(scores);
    };
    // The last group lets the first one begin.
    const bool last_group = group_ == active_ - 1;
    if (last_group && tiles > 1) PassTurn();

    int keys = Take();
    WarpgroupFence();
    Rows::BeginScores(queries, Tile(keys), scores);
    CommitProducts();
    WaitProducts<0>(scores);
    GiveBack(keys);
    weigh(0);
    rows.Pack(scores);
    for (int tile = 1; tile < tiles; ++tile) {
      keys = Take();
      AwaitTurn();
      WarpgroupFence();
      Rows::BeginScores(queries, Tile(keys), scores);
      CommitProducts();
      const int values = Take();
      rows.BeginMix(Tile(values));
      CommitProducts();
      if (!last_group || tile < tiles - 1) PassTurn();
      WaitProducts<1>(scores);
      GiveBack(keys);
      weigh(tile);
      rows.template WaitMix<0>();
      GiveBack(values);
      rows.Pack(scores);
    }
    const int values = Take();
    WarpgroupFence();
    rows.BeginMix(Tile(values));
    CommitProducts();
    rows.template WaitMix<0>();
  }

  XCOMPOSER_DEVICE void StoreRows(Rows& rows, const Params& p, const PrefillTile& tile,
                                  const typename Source::Heads& heads, int first_head) const {
    SyncGroup();  // the products of all warps have read the queries, whose places the results take
    rows.Finish(queries_);
    SyncWarp();  // a warp stores what its own lanes wrote
    // Counted in vectors: else the compiler no longer sees that they lie on 16 bytes.
    const int64_t stride = Source::OutStride(p) / 8;
    auto* out = static_cast<Vector16*>(p.out) + tile.first_row * stride + first_head * kParts +
                Lane() % kParts;
    XCOMPOSER_UNROLL
    for (int i = 0; i < 16 * kParts / 32; ++i) {
      const int place = Warp() % 4 * 16 + Lane() / kParts + i * (32 / kParts);
      const int row = group_ * Rows::kRows + place;
      if (row < tile.rows) {
        StoreVector(out + heads.Row(row) * stride + heads.Head(row) * kParts,
                    LoadVector(queries_, PanelIndex<Rows::kRows>(place, Lane() % kParts)));
      }
    }
  }

 private:
  /// Waits for the next tile of the ring, and returns its slot.
  XCOMPOSER_DEVICE int Take() {
    const int slot = next_.slot;
    BarrierWait(full_, slot, next_.parity);
    next_.Next();
    return slot;
  }
  /// The warp's products have read the slot.
  XCOMPOSER_DEVICE void GiveBack(int slot) const {
    if (Lane() == 0) BarrierArrive(empty_, slot);
  }
  XCOMPOSER_DEVICE uint64_t Tile(int slot) const {
    return PanelDescriptor<kWarpgroupKeys>(SharedAddress(ring_, slot * kTile));
  }
  XCOMPOSER_DEVICE void SyncGroup() const { NamedBarrierSync(kFirstGroup + group_, kWarpgroup); }
  // A turn's barrier counts the group that waits and the one that lets it go on; one group alone
  // has no turns.
  XCOMPOSER_DEVICE void AwaitTurn() const {
    if (active_ > 1) NamedBarrierSync(kFirstTurn + group_, 2 * kWarpgroup);
  }
  XCOMPOSER_DEVICE void PassTurn() const {
    const int next = group_ == active_ - 1 ? 0 : group_ + 1;
    if (active_ > 1) NamedBarrierArrive(kFirstTurn + next, 2 * kWarpgroup);
  }

  Shared<T> queries_;
  Shared<T> ring_;
  Shared<uint64_t> full_;
  Shared<uint64_t> empty_;
  int group_;
  int active_;
  RingPlace<Shape::kSlots> next_;
};

/// Grid: tiles of rows by groups of heads, in one line, heads fastest, which share keys; the last
/// rows of a sequence first, as they see the most keys.
template <typename T, typename Shape, typename Source, typename Keys>
__global__ void __launch_bounds__(Shape::kThreads, 1)
    WarpgroupAttentionKernel([[maybe_unused]] PrefillLaunch<typename Source::Params> launch) {
#ifdef XCOMPOSER_WARPGROUP_PRODUCTS
  using Consumer = WarpgroupConsumer<T, Shape, Source>;
  constexpr int kQueries = 64 * Shape::kDim;
  const typename Source::Params& p = launch.problem;
  GridDependencyLaunch();
  GridDependencyWait();
  const int block = BlockX();
  const int first_head = block % launch.head_groups * launch.heads_per_block;
  const auto locate = [&](PrefillTile& tile) {
    return Source::Locate(p, launch.rows_per_tile, launch.heads_per_block,
                          launch.tiles - 1 - block / launch.head_groups, tile);
  };
  PrefillTile tile;
  if (!locate(tile)) return;
  SharedArena arena;
  arena.Align(1024);
  const Shared<T> queries = arena.Take<T>(Shape::kGroups * kQueries);
  const Shared<T> ring = arena.Take<T>(Shape::kSlots * Consumer::kTile);
  const Shared<uint64_t> full = arena.Take<uint64_t>(Shape::kSlots);
  const Shared<uint64_t> empty = arena.Take<uint64_t>(Shape::kSlots);
  const int active = (tile.rows + 63) / 64;
  if (ThreadIndex() == 0) {
    for (int slot = 0; slot < Shape::kSlots; ++slot) {
      BarrierInit(full, slot, 4);  // the warps that fill it
      BarrierInit(empty, slot, 4 * active);
    }
  }
  SyncThreads();  // barriers are ready
  const int tiles = (tile.keys + kWarpgroupKeys - 1) / kWarpgroupKeys;
  // From one lane, so that the compiler knows it to be the same in all.
  const int group = ShuffleFrom(Warp(), 0) / 4 - 1;
  if (group < 0) {
    GiveUpRegisters<Shape::kProducerRegisters>();
    Keys source(launch, tile, first_head, ThreadIndex());
    KeyProducer<T, Shape>(ring, full, empty).Run(source, tiles);
  } else {
    TakeRegisters<Shape::kConsumerRegisters>();
    if (group >= active) return;
    const typename Source::Heads heads(launch.heads_per_block, launch.reciprocal);
    Consumer consumer(queries.Part(group * kQueries, kQueries), ring, full, empty, group, active);
    consumer.CopyQueries(p, tile, heads, first_head);
    typename Consumer::Rows rows;
    consumer.Attend(rows, tiles, [&](int row) {
      return Source::kCausal ? Min(tile.seen + heads.Row(row), tile.keys) : tile.keys;
    });
    locate(tile);  // again, rather than keep it in registers for so long
    consumer.StoreRows(rows, p, tile, heads, first_head);
  }
#endif
}

}  // namespace xcomposer::cuda
