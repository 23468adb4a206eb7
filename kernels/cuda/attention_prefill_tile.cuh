#pragma once

#include "kernels/cuda/attention_prefill.h"
#include "kernels/cuda/vector.cuh"

namespace xcomposer::cuda {

// Where the rows and keys of prefill attention lie, and how they come to shared memory.
//
// A tile lies in shared memory as (rows, head_dim) in parts of 8 numbers; the part of a row is
// exclusive or-ed with the row's low bits, so that the 8 rows that ldmatrix reads lie in different
// banks.

constexpr int kPrefillKeys = 64;
constexpr int kPrefillThreads = 128;

/// Place of a part of 8 numbers in a tile.
template <int kDim>
XCOMPOSER_DEVICE int TileIndex(int row, int part) {
  return row * kDim + (part ^ (row & 7)) * 8;
}

/// Where one block's work lies. Its rows are those of q for each of the heads that it takes: row r
/// is of query row first_row + r / heads and of head r % heads among them.
struct PrefillTile {
  int sequence = 0;
  int64_t first_row = 0;  ///< of q and out
  int rows = 0;           ///< of all its heads
  int seen = 0;           ///< keys that the first query row sees
  int keys = 0;           ///< that the last one sees
};

/// What the host adds to a problem: mostly quotients, which are dear on the device.
template <typename Params>
struct PrefillLaunch {
  Params problem;
  int heads_per_block = 1;  ///< neighbours that share keys
  int head_groups = 1;      ///< of so many
  int reciprocal = 0;       ///< of heads_per_block: see RowOfHeads
  int rows_per_tile = 0;    ///< of q
  int tiles = 0;            ///< at most
  int round = 1;            ///< blocks that start side by side: one on every multiprocessor
  int step_blocks = 0;      ///< a tile of keys is so many blocks of the cache
  int step_keys = 0;        ///< and so many keys
};

/// r / heads for the rows of a tile: exact for r < 192 and heads <= 64.
class RowOfHeads {
 public:
  static constexpr int Reciprocal(int heads) { return 65536 / heads + 1; }

  XCOMPOSER_DEVICE RowOfHeads(int heads, int reciprocal) : heads_(heads), reciprocal_(reciprocal) {}
  XCOMPOSER_DEVICE int Row(int r) const { return r * reciprocal_ >> 16; }
  XCOMPOSER_DEVICE int Head(int r) const { return r - Row(r) * heads_; }

 private:
  int heads_;
  int reciprocal_;
};

/// How a launcher of prefill attention shares out its problem, which it has checked.
struct PrefillWork {
  int64_t heads = 0;
  int64_t heads_per_block = 1;  ///< at most 64
  int64_t block_size = 1;       ///< of the paged cache
};

/// Of blocks that take `rows` of q, times heads that share keys, and `keys` at a time.
template <typename Params>
PrefillLaunch<Params> PrefillLaunchOf(const Params& params, const PrefillWork& work, int rows,
                                      int keys, int64_t tiles, const Context& context) {
  const auto heads = static_cast<int>(work.heads_per_block);
  return {.problem = params,
          .heads_per_block = heads,
          .head_groups = static_cast<int>(work.heads / work.heads_per_block),
          .reciprocal = RowOfHeads::Reciprocal(heads),
          .rows_per_tile = rows / heads,
          .tiles = static_cast<int>(tiles),
          .round = context.multiprocessors,
          .step_blocks = static_cast<int>(keys / work.block_size),
          .step_keys = static_cast<int>(keys % work.block_size)};
}

/// The same where a block takes one head.
class RowOfOneHead {
 public:
  XCOMPOSER_DEVICE RowOfOneHead(int, int) {}
  XCOMPOSER_DEVICE int Row(int r) const { return r; }
  XCOMPOSER_DEVICE int Head(int) const { return 0; }
};

/// Blocks are numbered from the heaviest to the lightest where causal: the last rows of a sequence
/// see the most keys. Those that start side by side go to one multiprocessor each, so that every
/// second round is turned round: who got the heaviest of one round gets the lightest of the next.
XCOMPOSER_DEVICE int InTurns(int block, int blocks, int round) {
  const int turn = block / round;
  const bool turned = turn % 2 == 1 && (turn + 1) * round <= blocks;
  return turned ? (2 * turn + 1) * round - 1 - block : block;
}

/// A thread's share of copying a tile of keys: one part of kCount rows, kPass rows apart.
template <int kDim>
struct KeyShare {
  static constexpr int kParts = kDim / 8;
  static constexpr int kPass = kPrefillThreads / kParts;
  static constexpr int kCount = kPrefillKeys / kPass;
  static_assert(kPass % 8 == 0);  // the rows of a thread have the same low bits
  static_assert(kCount % 4 == 0);

  XCOMPOSER_DEVICE static int Part() { return ThreadIndex() % kParts; }
  XCOMPOSER_DEVICE static int FirstRow() { return ThreadIndex() / kParts; }

  /// `at(i)`: where in memory this thread's part of the i-th row lies.
  template <typename T, typename At>
  XCOMPOSER_DEVICE static void Copy(const Shared<T>& to, const At& at) {
    const int first = TileIndex<kDim>(FirstRow(), Part());
    XCOMPOSER_UNROLL
    for (int i = 0; i < kCount; ++i) CopyAsync16(to, first + i * kPass * kDim, at(i), true);
  }
};

// Places of a tile past the last key repeat keys that are there: they get no weight.

/// Rows of sequences in the batch, keys in blocks of any size. The places of a tile's keys are
/// looked up once for all threads, by one thread each, and a tile ahead: the table's entry is on
/// its way while scores are computed.
template <typename T, int kDim>
class PagedSource {
 public:
  using Params = PrefillAttentionParams;
  using Heads = RowOfHeads;
  using Share = KeyShare<kDim>;
  static constexpr bool kCausal = true;
  static constexpr int kSlots = kPrefillKeys;  ///< ints of shared memory for a tile's places

  /// The tiles of all sequences are numbered through; false past the last.
  XCOMPOSER_DEVICE static bool Locate(const Params& p, int rows_per_tile, int heads, int tile,
                                      PrefillTile& out) {
    for (int s = 0; s < static_cast<int>(p.sequences); ++s) {
      const int rows = Load(p.row_counts + s);
      const int tiles = (rows + rows_per_tile - 1) / rows_per_tile;
      if (tile < tiles) {
        const int first = tile * rows_per_tile;
        const int count = Min(rows_per_tile, rows - first);
        out.sequence = s;
        out.first_row = Load(p.first_rows + s) + first;
        out.rows = count * heads;
        out.seen = Load(p.positions + s) + first + 1;
        out.keys = out.seen + count - 1;
        return true;
      }
      tile -= tiles;
    }
    return false;
  }
  XCOMPOSER_DEVICE static int64_t QueryStride(const Params& p) { return p.shape.heads * kDim; }
  XCOMPOSER_DEVICE static int64_t OutStride(const Params& p) { return p.out_stride; }

  XCOMPOSER_DEVICE PagedSource(const Params& p, const PrefillTile& tile, int first_head)
      : keys_(tile.keys),
        first_(static_cast<uint32_t>(
            first_head / static_cast<int>(p.shape.heads / p.shape.kv_heads) * Share::kParts +
            Share::Part())),
        entry_(tile.sequence * static_cast<int>(p.cache.table_stride)) {
    block_ = Load(p.cache.block_tables + entry_);
    entry_ += ThreadIndex() / Size(p);
    within_ = ThreadIndex() % Size(p);
    Fetch(p, 0);
  }

  /// Writes the places of the 64 keys from `first_key` on, then asks for those of the next ones,
  /// which must be the next ones to be published.
  XCOMPOSER_DEVICE void Publish(const PrefillLaunch<Params>& launch, int first_key,
                                const Shared<int>& slots) {
    const int row = ThreadIndex();
    if (row >= kPrefillKeys) return;
    const int size = Size(launch.problem);
    const int slot = block_ * size + (first_key + row < keys_ ? within_ : 0);
    slots[row % Share::kPass * Share::kCount + row / Share::kPass] = slot;
    entry_ += launch.step_blocks;
    within_ += launch.step_keys;
    if (within_ >= size) {
      within_ -= size;
      ++entry_;
    }
    Fetch(launch.problem, first_key + kPrefillKeys);
  }

  XCOMPOSER_DEVICE void CopyKeys(const Params& p, const Shared<int>& slots, int,
                                 const Shared<T>& to) const {
    Copy(p, p.cache.keys, slots, to);
  }
  XCOMPOSER_DEVICE void CopyValues(const Params& p, const Shared<int>& slots, int,
                                   const Shared<T>& to) const {
    Copy(p, p.cache.values, slots, to);
  }

 private:
  XCOMPOSER_DEVICE static int Size(const Params& p) { return static_cast<int>(p.cache.block_size); }

  XCOMPOSER_DEVICE void Fetch(const Params& p, int first_key) {
    if (ThreadIndex() < kPrefillKeys && first_key + ThreadIndex() < keys_) {
      block_ = Load(p.cache.block_tables + entry_);
    }
  }
  XCOMPOSER_DEVICE void Copy(const Params& p, const void* from, const Shared<int>& slots,
                             const Shared<T>& to) const {
    uint32_t rows[Share::kCount];
    XCOMPOSER_UNROLL
    for (int i = 0; i < Share::kCount; i += 4) {
      const Vector16 four = LoadVector(slots, Share::FirstRow() * Share::kCount + i);
      XCOMPOSER_UNROLL
      for (int j = 0; j < 4; ++j) rows[i + j] = four.words[j];
    }
    // Counted in vectors 32 bits are enough, and no thread keeps pointers.
    const auto stride = static_cast<uint32_t>(p.shape.kv_heads) * Share::kParts;
    Share::Copy(to, [&](int i) {
      const uint32_t vector = rows[i] * stride + first_;
      return reinterpret_cast<const T*>(static_cast<const Vector16*>(from) + vector);
    });
  }

  int keys_;
  uint32_t first_;  // vector of a row, for this thread
  int entry_;       // of the tables, for the key that this thread looks up next
  int within_;      // the block, likewise
  int block_;       // of that key, or past the last key another one of the sequence
};

/// Views of equal size, all keys seen by all rows.
template <typename T, int kDim>
class ViewSource {
 public:
  using Params = VisionAttentionParams;
  using Heads = RowOfOneHead;
  using Share = KeyShare<kDim>;
  static constexpr bool kCausal = false;
  static constexpr int kSlots = 0;

  XCOMPOSER_DEVICE static bool Locate(const Params& p, int rows_per_tile, int, int tile,
                                      PrefillTile& out) {
    const int rows = static_cast<int>(p.rows);
    const int tiles = (rows + rows_per_tile - 1) / rows_per_tile;
    const int first = tile % tiles * rows_per_tile;
    out.sequence = tile / tiles;
    out.first_row = out.sequence * p.rows + first;
    out.rows = Min(rows_per_tile, rows - first);
    out.seen = out.keys = rows;
    return true;
  }
  XCOMPOSER_DEVICE static int64_t QueryStride(const Params& p) { return p.stride; }
  XCOMPOSER_DEVICE static int64_t OutStride(const Params& p) { return p.heads * kDim; }

  XCOMPOSER_DEVICE ViewSource(const Params& p, const PrefillTile& tile, int head)
      : first_(tile.sequence * p.rows * p.stride + head * kDim), keys_(tile.keys) {}

  XCOMPOSER_DEVICE void Publish(const PrefillLaunch<Params>&, int, const Shared<int>&) const {}
  XCOMPOSER_DEVICE void CopyKeys(const Params& p, const Shared<int>&, int first_key,
                                 const Shared<T>& to) const {
    Copy(p, p.k, first_key, to);
  }
  XCOMPOSER_DEVICE void CopyValues(const Params& p, const Shared<int>&, int first_key,
                                   const Shared<T>& to) const {
    Copy(p, p.v, first_key, to);
  }

 private:
  /// 32 bits are enough within a view, and what is the same in all threads costs them no register.
  XCOMPOSER_DEVICE void Copy(const Params& p, const void* from, int first_key,
                             const Shared<T>& to) const {
    const char* bytes = static_cast<const char*>(from) + first_ * sizeof(T);
    const auto stride = static_cast<uint32_t>(p.stride * sizeof(T));
    Share::Copy(to, [&](int i) {
      const int key = Min(first_key + Share::FirstRow() + i * Share::kPass, keys_ - 1);
      const uint32_t offset = static_cast<uint32_t>(key) * stride + Share::Part() * 16;
      return reinterpret_cast<const T*>(bytes + offset);
    });
  }

  int64_t first_;  // number of the view's keys and values, for this head
  int keys_;
};

}  // namespace xcomposer::cuda
