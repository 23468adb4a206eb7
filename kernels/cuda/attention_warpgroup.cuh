#pragma once

#include "kernels/cuda/attention_warpgroup.h"
#include "kernels/cuda/attention_warpgroup_rows.cuh"

namespace xcomposer::cuda {

// Flash attention with products of warpgroups, as FlashAttention-3 (Shah et al. 2024) shares out
// the work: the first warpgroup of a block only brings keys and values, through a ring of tiles of
// 128 keys; each other one has 64 rows. Scores of a tile are on their way to the tensor cores
// together with the values of the tile before it, whose weights are ready, and while one warpgroup
// turns scores into weights the other one's products run: they take turns in beginning them.
//
// Where there are many tiles of rows, a block stays on its multiprocessor and takes one after the
// other, so that the keys of the next one and its queries come while the results of this one are
// written. Where there are few, each has a block, which begins wherever another one has ended.
template <int kDim_, int kGroups_>
struct WarpgroupShape {
  static constexpr int kDim = kDim_;
  static constexpr int kGroups = kGroups_;  ///< that have rows
  static constexpr int kRows = 64 * kGroups;
  static constexpr int kThreads = kWarpgroup * (1 + kGroups);
  static constexpr int kSlots = kDim == 128 ? 5 : 8;  ///< tiles of keys or values in the ring
  // The block has all of a multiprocessor's registers, which are dealt out anew: 168 (of two
  // groups) or 128 (of three) were each thread's.
  static constexpr int kProducerRegisters = kGroups == 2 ? 40 : 32;
  static constexpr int kConsumerRegisters = kGroups == 2 ? 232 : 160;
};

// Numbers of named barriers; 0 is SyncThreads.
constexpr int kFirstTurn = 1;       // of each of all groups with rows
constexpr int kFirstGroup = 4;      // likewise
constexpr int kFirstTurnOfTwo = 7;  // of two of three groups

/// A block's share of all work, which is tiles of rows by groups of heads, heads fastest, which
/// share keys; the last rows of a sequence first, as they see the most keys.
template <typename Source>
class WarpgroupItems {
 public:
  using Params = typename Source::Params;

  XCOMPOSER_DEVICE explicit WarpgroupItems(const PrefillLaunch<Params>& launch) : launch_(launch) {}

  /// The block's first item, or the one after `item`, that there is; all() after the last.
  XCOMPOSER_DEVICE int First() const { return Find(BlockX()); }
  XCOMPOSER_DEVICE int After(int item) const { return Find(item + GridX()); }
  XCOMPOSER_DEVICE int all() const { return launch_.tiles * launch_.head_groups; }

  XCOMPOSER_DEVICE bool Locate(int item, PrefillTile& tile) const {
    return Source::Locate(launch_.problem, launch_.rows_per_tile, launch_.heads_per_block,
                          launch_.tiles - 1 - Place(item) / launch_.head_groups, tile);
  }
  XCOMPOSER_DEVICE int FirstHead(int item) const {
    return Place(item) % launch_.head_groups * launch_.heads_per_block;
  }

 private:
  XCOMPOSER_DEVICE int Place(int item) const {
    return Source::kCausal ? InTurns(item, all(), launch_.round) : item;
  }
  XCOMPOSER_DEVICE int Find(int item) const {
    PrefillTile tile;
    while (item < all() && !Locate(item, tile)) item += GridX();
    return Min(item, all());
  }

  const PrefillLaunch<Params>& launch_;
};

/// A group with rows, from its queries to its results.
template <typename T, typename Shape, typename Source>
class WarpgroupConsumer {
 public:
  using Params = typename Source::Params;
  using Rows = WarpgroupRows<T, Shape::kDim>;
  static constexpr int kParts = Shape::kDim / 8;
  static constexpr int kQueries = Rows::kRows * Shape::kDim;
  static constexpr int kTile = kWarpgroupKeys * Shape::kDim;

  /// `queries`: room for the group's rows, twice.
  XCOMPOSER_DEVICE WarpgroupConsumer(const PrefillLaunch<Params>& launch, const Shared<T>& queries,
                                     const Shared<T>& ring, const Shared<uint64_t>& full,
                                     const Shared<uint64_t>& empty, int group)
      : launch_(launch),
        heads_(launch.heads_per_block, launch.reciprocal),
        queries_(queries),
        ring_(ring),
        full_(full),
        empty_(empty),
        group_(group) {}

  XCOMPOSER_DEVICE void Run() {
    const WarpgroupItems<Source> items(launch_);
    int item = items.First();
    int half = 0;
    if (item < items.all()) CopyQueries(items, item, Half(half));
    while (item < items.all()) {
      WaitCopies<0>();
      SyncGroup();  // all queries are there, for products after Take's fence; the other half is
                    // free
      if (const int next = items.After(item); next < items.all()) {
        CopyQueries(items, next, Half(half ^ 1));
      }
      PrefillTile tile;
      items.Locate(item, tile);
      const int tiles = (tile.keys + kWarpgroupKeys - 1) / kWarpgroupKeys;
      active_ = (tile.rows + Rows::kRows - 1) / Rows::kRows;
      if (group_ < active_) {
        Rows rows;
        Attend(rows, Half(half), tiles, [&](int row) {
          return Source::kCausal ? Min(tile.seen + heads_.Row(row), tile.keys) : tile.keys;
        });
        SyncGroup();  // products of all warps have read the queries, whose places the results take
        rows.Finish(Half(half));
        SyncWarp();  // a warp stores what its own lanes wrote
        StoreRows(items, item, Half(half));
      } else {
        for (int i = 0; i < 2 * tiles; ++i) GiveBack(Take());
      }
      item = items.After(item);  // found anew, rather than kept in a register for so long
      half ^= 1;
    }
  }

 private:
  XCOMPOSER_DEVICE Shared<T> Half(int half) const {
    return queries_.Part(half * kQueries, kQueries);
  }

  /// Rows past the last repeat it.
  XCOMPOSER_DEVICE void CopyQueries(const WarpgroupItems<Source>& items, int item,
                                    const Shared<T>& to) const {
    PrefillTile tile;
    items.Locate(item, tile);
    const int64_t stride = Source::QueryStride(launch_.problem);
    const int part = ThreadIndex() % kParts;
    const T* from = static_cast<const T*>(launch_.problem.q) + tile.first_row * stride +
                    items.FirstHead(item) * Shape::kDim + part * 8;
    XCOMPOSER_UNROLL
    for (int i = 0; i < Rows::kRows * kParts / kWarpgroup; ++i) {
      const int place = ThreadIndex() % kWarpgroup / kParts + i * (kWarpgroup / kParts);
      const int row = Min(group_ * Rows::kRows + place, tile.rows - 1);
      CopyAsync16(to, PanelIndex<Rows::kRows>(place, part),
                  from + heads_.Row(row) * stride + heads_.Head(row) * Shape::kDim, true);
    }
    CommitCopies();
  }

  /// `end(r)`: the first key that row r of the tile does not see.
  template <typename End>
  XCOMPOSER_DEVICE void Attend(Rows& rows, const Shared<T>& from, int tiles, const End& end) {
    const uint64_t queries = PanelDescriptor<Rows::kRows>(SharedAddress(from, 0));
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
    GiveBack(values);
  }

  XCOMPOSER_DEVICE void StoreRows(const WarpgroupItems<Source>& items, int item,
                                  const Shared<T>& from) const {
    PrefillTile tile;
    items.Locate(item, tile);  // again, rather than keep it in registers for so long
    // Counted in vectors: else the compiler no longer sees that they lie on 16 bytes.
    const int64_t stride = Source::OutStride(launch_.problem) / 8;
    auto* out = static_cast<Vector16*>(launch_.problem.out) + tile.first_row * stride +
                items.FirstHead(item) * kParts + Lane() % kParts;
    XCOMPOSER_UNROLL
    for (int i = 0; i < 16 * kParts / 32; ++i) {
      const int place = Warp() % 4 * 16 + Lane() / kParts + i * (32 / kParts);
      const int row = group_ * Rows::kRows + place;
      if (row < tile.rows) {
        StoreVector(out + heads_.Row(row) * stride + heads_.Head(row) * kParts,
                    LoadVector(from, PanelIndex<Rows::kRows>(place, Lane() % kParts)));
      }
    }
  }

  /// Waits for the next tile of the ring, and returns its slot.
  XCOMPOSER_DEVICE int Take() {
    const int slot = next_.slot;
    BarrierWait(full_, slot, next_.parity);
    ProductFence();  // products see what was copied
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
    if (active_ > 1) NamedBarrierSync(Turn(group_), 2 * kWarpgroup);
  }
  XCOMPOSER_DEVICE void PassTurn() const {
    const int next = group_ == active_ - 1 ? 0 : group_ + 1;
    if (active_ > 1) NamedBarrierArrive(Turn(next), 2 * kWarpgroup);
  }
  // A third group without rows goes ahead: into an item of which it has some, while the others
  // still take turns in the one before. Their barriers are others than those of all three.
  XCOMPOSER_DEVICE int Turn(int group) const {
    const bool some = Shape::kGroups == 3 && active_ == 2;
    return (some ? kFirstTurnOfTwo : kFirstTurn) + group;
  }

  const PrefillLaunch<Params>& launch_;
  typename Source::Heads heads_;
  Shared<T> queries_;
  Shared<T> ring_;
  Shared<uint64_t> full_;
  Shared<uint64_t> empty_;
  int group_;
  int active_ = 0;  ///< groups that have rows of this item
  RingPlace<Shape::kSlots> next_;
};

/// Grid: a block on every multiprocessor, or one for each item.
template <typename T, typename Shape, typename Source, typename Keys>
__global__ void __launch_bounds__(Shape::kThreads, 1)
    WarpgroupAttentionKernel([[maybe_unused]] PrefillLaunch<typename Source::Params> launch) {
#ifdef XCOMPOSER_WARPGROUP_PRODUCTS
  using Consumer = WarpgroupConsumer<T, Shape, Source>;
  GridDependencyLaunch();
  SharedArena arena;
  arena.Align(1024);
  const Shared<T> queries = arena.Take<T>(2 * Shape::kGroups * Consumer::kQueries);
  const Shared<T> ring = arena.Take<T>(Shape::kSlots * Consumer::kTile);
  const Shared<uint64_t> full = arena.Take<uint64_t>(Shape::kSlots);
  const Shared<uint64_t> empty = arena.Take<uint64_t>(Shape::kSlots);
  if (ThreadIndex() == 0) {
    for (int slot = 0; slot < Shape::kSlots; ++slot) {
      BarrierInit(full, slot, kWarpgroup);
      BarrierInit(empty, slot, 4 * Shape::kGroups);  // warps
    }
  }
  SyncThreads();  // barriers are ready
  GridDependencyWait();
  // From one lane, so that the compiler knows it to be the same in all.
  const int group = ShuffleFrom(Warp(), 0) / 4 - 1;
  if (group < 0) {
    GiveUpRegisters<Shape::kProducerRegisters>();
    const WarpgroupItems<Source> items(launch);
    KeyProducer<T, Shape> producer(ring, full, empty);
    for (int item = items.First(); item < items.all(); item = items.After(item)) {
      PrefillTile tile;
      items.Locate(item, tile);
      Keys source(launch, tile, items.FirstHead(item), ThreadIndex());
      producer.Run(source, (tile.keys + kWarpgroupKeys - 1) / kWarpgroupKeys);
    }
  } else {
    TakeRegisters<Shape::kConsumerRegisters>();
    Consumer(launch, queries.Part(2 * group * Consumer::kQueries, 2 * Consumer::kQueries), ring,
             full, empty, group)
        .Run();
  }
#endif
}

}  // namespace xcomposer::cuda
