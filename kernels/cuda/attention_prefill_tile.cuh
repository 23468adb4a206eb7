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

/// What the host adds to a problem.
template <typename Params>
struct PrefillLaunch {
  Params problem;
  int heads_per_block = 1;  ///< neighbours that share keys
  int round = 0;            ///< blocks that start side by side: one on every multiprocessor
};

/// r / heads for the rows of a tile: exact for r < 128 and heads <= 64.
class RowOfHeads {
 public:
  XCOMPOSER_DEVICE explicit RowOfHeads(int heads)
      : heads_(heads), reciprocal_(65536 / heads + 1) {}
  XCOMPOSER_DEVICE int Row(int r) const { return r * reciprocal_ >> 16; }
  XCOMPOSER_DEVICE int Head(int r) const { return r - Row(r) * heads_; }

 private:
  int heads_;
  int reciprocal_;
};

/// The same where a block takes one head.
class RowOfOneHead {
 public:
  XCOMPOSER_DEVICE explicit RowOfOneHead(int) {}
  XCOMPOSER_DEVICE int Row(int r) const { return r; }
  XCOMPOSER_DEVICE int Head(int) const { return 0; }
};

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

  /// `rows[i]`: where the i-th row lies, in rows of `stride` numbers from `from`; below zero: none,
  /// the tile gets zeros. `from` is this thread's part of row 0.
  template <typename T>
  XCOMPOSER_DEVICE static void Copy(const T* from, int stride, const int (&rows)[kCount],
                                    const Shared<T>& to) {
    const int first = TileIndex<kDim>(FirstRow(), Part());
    XCOMPOSER_UNROLL
    for (int i = 0; i < kCount; ++i) {
      const bool valid = rows[i] >= 0;
      const int64_t offset = static_cast<int64_t>(valid ? rows[i] : 0) * stride;
      CopyAsync16(to, first + i * kPass * kDim, from + offset, valid);
    }
  }
};

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
  XCOMPOSER_DEVICE static int QueryStride(const Params& p) {
    return static_cast<int>(p.shape.heads) * kDim;
  }
  XCOMPOSER_DEVICE static int64_t OutStride(const Params& p) { return p.shape.heads * kDim; }
  XCOMPOSER_DEVICE static int HeadCount(const Params& p) { return static_cast<int>(p.shape.heads); }

  XCOMPOSER_DEVICE PagedSource(const Params& p, const PrefillTile& tile, int first_head)
      : table_(p.cache.block_tables + tile.sequence * p.cache.table_stride),
        size_(static_cast<int>(p.cache.block_size)),
        keys_(tile.keys),
        stride_(static_cast<int>(p.shape.kv_heads) * kDim),
        key_(ThreadIndex()),
        entry_(key_ / size_),
        within_(key_ % size_) {
    const int kv = first_head / static_cast<int>(p.shape.heads / p.shape.kv_heads);
    const int first = kv * kDim + Share::Part() * 8;
    from_keys_ = static_cast<const T*>(p.cache.keys) + first;
    from_values_ = static_cast<const T*>(p.cache.values) + first;
    Fetch();
  }

  /// Writes the places of the next tile's keys, then asks for those of the one after it.
  XCOMPOSER_DEVICE void Publish(const Shared<int>& slots) {
    if (ThreadIndex() >= kPrefillKeys) return;
    const int row = ThreadIndex();
    const int slot = key_ < keys_ ? block_ * size_ + within_ : -1;
    slots[row % Share::kPass * Share::kCount + row / Share::kPass] = slot;
    key_ += kPrefillKeys;
    entry_ += kPrefillKeys / size_;
    within_ += kPrefillKeys % size_;
    if (within_ >= size_) {
      within_ -= size_;
      ++entry_;
    }
    Fetch();
  }

  XCOMPOSER_DEVICE void CopyKeys(const Shared<int>& slots, int, const Shared<T>& to) const {
    Copy(from_keys_, slots, to);
  }
  XCOMPOSER_DEVICE void CopyValues(const Shared<int>& slots, int, const Shared<T>& to) const {
    Copy(from_values_, slots, to);
  }

 private:
  XCOMPOSER_DEVICE void Fetch() {
    if (ThreadIndex() < kPrefillKeys && key_ < keys_) block_ = Load(table_ + entry_);
  }
  XCOMPOSER_DEVICE void Copy(const T* from, const Shared<int>& slots, const Shared<T>& to) const {
    int rows[Share::kCount];
    XCOMPOSER_UNROLL
    for (int i = 0; i < Share::kCount; i += 4) {
      const Vector16 four = LoadVector(slots, Share::FirstRow() * Share::kCount + i);
      XCOMPOSER_UNROLL
      for (int j = 0; j < 4; ++j) rows[i + j] = static_cast<int>(four.words[j]);
    }
    Share::Copy(from, stride_, rows, to);
  }

  const int32_t* table_;
  const T* from_keys_;
  const T* from_values_;
  int size_;
  int keys_;
  int stride_;
  int key_;  // whose place this thread looks up next
  int entry_;
  int within_;
  int block_ = 0;
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
  XCOMPOSER_DEVICE static int QueryStride(const Params& p) { return static_cast<int>(p.stride); }
  XCOMPOSER_DEVICE static int64_t OutStride(const Params& p) { return p.heads * kDim; }
  XCOMPOSER_DEVICE static int HeadCount(const Params& p) { return static_cast<int>(p.heads); }

  XCOMPOSER_DEVICE ViewSource(const Params& p, const PrefillTile& tile, int head)
      : keys_(tile.keys), stride_(static_cast<int>(p.stride)) {
    const int64_t first = tile.sequence * p.rows * p.stride + head * kDim + Share::Part() * 8;
    from_keys_ = static_cast<const T*>(p.k) + first;
    from_values_ = static_cast<const T*>(p.v) + first;
  }

  XCOMPOSER_DEVICE void Publish(const Shared<int>&) const {}
  XCOMPOSER_DEVICE void CopyKeys(const Shared<int>&, int first_key, const Shared<T>& to) const {
    Copy(from_keys_, first_key, to);
  }
  XCOMPOSER_DEVICE void CopyValues(const Shared<int>&, int first_key, const Shared<T>& to) const {
    Copy(from_values_, first_key, to);
  }

 private:
  XCOMPOSER_DEVICE void Copy(const T* from, int first_key, const Shared<T>& to) const {
    int rows[Share::kCount];
    XCOMPOSER_UNROLL
    for (int i = 0; i < Share::kCount; ++i) {
      const int key = first_key + Share::FirstRow() + i * Share::kPass;
      rows[i] = key < keys_ ? key : -1;
    }
    Share::Copy(from, stride_, rows, to);
  }

  const T* from_keys_;
  const T* from_values_;
  int keys_;
  int stride_;
};

}  // namespace xcomposer::cuda
