#pragma once

#include "kernels/cuda/attention_prefill.h"
#include "kernels/cuda/vector.cuh"

namespace xcomposer::cuda {

// Flash attention (Dao 2023) with mma.sync: a block takes 64 rows of one query head, each of its
// four warps 16 of them, and goes through the keys 64 at a time. A warp keeps its rows' queries,
// running softmax and mixed values in registers; scores never leave them. Keys and values come to
// shared memory by asynchronous copies: values arrive while scores are computed, the next keys
// while values are mixed.
//
// A tile lies in shared memory as (64, head_dim) in parts of 8 numbers; the part of a row is
// exclusive or-ed with the row's low bits, so that the 8 rows that ldmatrix reads lie in different
// banks.

constexpr int kPrefillRows = 64;
constexpr int kPrefillKeys = 64;
constexpr int kPrefillThreads = 128;

/// Where one block's work lies.
struct PrefillTile {
  int sequence = 0;
  int64_t first_row = 0;  ///< of q and out
  int rows = 0;           ///< at most kPrefillRows
  int seen = 0;           ///< keys that the first row sees
  int keys = 0;           ///< that the last row sees
};

/// Rows of sequences in the batch, keys in blocks.
template <typename T, int kDim>
struct PagedSource {
  using Params = PrefillAttentionParams;
  static constexpr bool kCausal = true;

  /// The tiles of all sequences are numbered through; false past the last.
  XCOMPOSER_DEVICE static bool Locate(const Params& p, int tile, PrefillTile& out) {
    for (int s = 0; s < static_cast<int>(p.sequences); ++s) {
      const int rows = Load(p.row_counts + s);
      const int tiles = (rows + kPrefillRows - 1) / kPrefillRows;
      if (tile < tiles) {
        out.sequence = s;
        out.first_row = Load(p.first_rows + s) + tile * kPrefillRows;
        out.rows = Min(kPrefillRows, rows - tile * kPrefillRows);
        out.seen = Load(p.positions + s) + tile * kPrefillRows + 1;
        out.keys = out.seen + out.rows - 1;
        return true;
      }
      tile -= tiles;
    }
    return false;
  }

  XCOMPOSER_DEVICE static int64_t QueryStride(const Params& p) { return p.shape.heads * kDim; }
  XCOMPOSER_DEVICE static int Heads(const Params& p) { return static_cast<int>(p.shape.heads); }
  XCOMPOSER_DEVICE static const T* Keys(const Params& p) {
    return static_cast<const T*>(p.cache.keys);
  }
  XCOMPOSER_DEVICE static const T* Values(const Params& p) {
    return static_cast<const T*>(p.cache.values);
  }
  /// Of a key and query head, in numbers from the start of the caches.
  XCOMPOSER_DEVICE static int64_t Offset(const Params& p, const PrefillTile& tile, int key,
                                         int head) {
    const int size = static_cast<int>(p.cache.block_size);
    const int block =
        Load(p.cache.block_tables + tile.sequence * p.cache.table_stride + key / size);
    const int kv = head / static_cast<int>(p.shape.heads / p.shape.kv_heads);
    const int64_t row = static_cast<int64_t>(block) * size + key % size;
    return (row * p.shape.kv_heads + kv) * kDim;
  }
};

/// Views of equal size, all keys seen by all rows.
template <typename T, int kDim>
struct ViewSource {
  using Params = VisionAttentionParams;
  static constexpr bool kCausal = false;

  XCOMPOSER_DEVICE static bool Locate(const Params& p, int tile, PrefillTile& out) {
    const int rows = static_cast<int>(p.rows);
    const int tiles = (rows + kPrefillRows - 1) / kPrefillRows;
    const int first = tile % tiles * kPrefillRows;
    out.sequence = tile / tiles;
    out.first_row = out.sequence * p.rows + first;
    out.rows = Min(kPrefillRows, rows - first);
    out.seen = out.keys = rows;
    return true;
  }
  XCOMPOSER_DEVICE static int64_t QueryStride(const Params& p) { return p.stride; }
  XCOMPOSER_DEVICE static int Heads(const Params& p) { return static_cast<int>(p.heads); }
  XCOMPOSER_DEVICE static const T* Keys(const Params& p) { return static_cast<const T*>(p.k); }
  XCOMPOSER_DEVICE static const T* Values(const Params& p) { return static_cast<const T*>(p.v); }
  XCOMPOSER_DEVICE static int64_t Offset(const Params& p, const PrefillTile& tile, int key,
                                         int head) {
    return (tile.sequence * p.rows + key) * p.stride + head * kDim;
  }
};

/// Place of a part of 8 numbers in a tile.
template <int kDim>
XCOMPOSER_DEVICE int TileIndex(int row, int part) {
  return row * kDim + (part ^ (row & 7)) * 8;
}

/// What one warp knows of its 16 rows. A lane holds rows Lane() / 4 and 8 more.
template <typename T, int kDim>
struct PrefillWarp {
  static constexpr int kSteps = kDim / 16;  // of 16 numbers along a head
  static constexpr int kKeyTiles = kPrefillKeys / 8;
  static constexpr int kDimTiles = kDim / 8;

  uint32_t q[kSteps][4];
  float largest[2];
  float sum[2];
  float mixed[kDimTiles][4];

  XCOMPOSER_DEVICE void Start(const Shared<T>& queries) {
    XCOMPOSER_UNROLL
    for (int s = 0; s < kSteps; ++s) {
      // Upper left, lower left, upper right, lower right 8x8 of 16 rows by 16 numbers.
      const int row = Warp() * 16 + Lane() % 16;
      LoadMatrices(q[s], queries, TileIndex<kDim>(row, 2 * s + Lane() / 16));
    }
    XCOMPOSER_UNROLL
    for (int r = 0; r < 2; ++r) {
      largest[r] = FloatOf(0xFF800000);
      sum[r] = 0.0f;
    }
    XCOMPOSER_UNROLL
    for (int n = 0; n < kDimTiles; ++n) {
      XCOMPOSER_UNROLL
      for (int i = 0; i < 4; ++i) mixed[n][i] = 0.0f;
    }
  }

  XCOMPOSER_DEVICE void Score(const Shared<T>& keys, float (&scores)[kKeyTiles][4]) const {
    XCOMPOSER_UNROLL
    for (int n = 0; n < kKeyTiles; n += 2) {
      XCOMPOSER_UNROLL
      for (int i = 0; i < 4; ++i) scores[n][i] = scores[n + 1][i] = 0.0f;
      XCOMPOSER_UNROLL
      for (int s = 0; s < kSteps; ++s) {
        // Two tiles of 8 keys, each with its two halves of 16 numbers.
        const int key = n * 8 + Lane() / 16 * 8 + Lane() % 8;
        uint32_t b[4];
        LoadMatrices(b, keys, TileIndex<kDim>(key, 2 * s + Lane() / 8 % 2));
        MultiplyAdd<T>(scores[n], q[s], b[0], b[1]);
        MultiplyAdd<T>(scores[n + 1], q[s], b[2], b[3]);
      }
    }
  }

  /// Takes out what a row must not see. The warp's row r sees `seen` + r * per_row keys, none from
  /// `keys` on; the tile's first key is `first_key`.
  XCOMPOSER_DEVICE void Mask(float (&scores)[kKeyTiles][4], int first_key, int seen, int per_row,
                             int keys) const {
    XCOMPOSER_UNROLL
    for (int i = 0; i < 4; ++i) {
      const int row = Lane() / 4 + i / 2 * 8;
      const int end = Min(seen + row * per_row, keys);
      XCOMPOSER_UNROLL
      for (int n = 0; n < kKeyTiles; ++n) {
        const int key = first_key + n * 8 + Lane() % 4 * 2 + i % 2;
        if (key >= end) scores[n][i] = FloatOf(0xFF800000);
      }
    }
  }

  /// Scores become weights; what was mixed before is scaled to the new largest score.
  XCOMPOSER_DEVICE void Weigh(float (&scores)[kKeyTiles][4]) {
    const float scale = 1.44269504f / sqrtf(static_cast<float>(kDim));  // weights are powers of two
    XCOMPOSER_UNROLL
    for (int r = 0; r < 2; ++r) {
      float highest = largest[r];
      XCOMPOSER_UNROLL
      for (int n = 0; n < kKeyTiles; ++n) {
        highest = Max(highest, Max(scores[n][2 * r], scores[n][2 * r + 1]));
      }
      // Four lanes share a row.
      highest = Max(highest, ShuffleXor(highest, 1));
      highest = Max(highest, ShuffleXor(highest, 2));
      const float factor = Exp2((largest[r] - highest) * scale);
      largest[r] = highest;
      sum[r] *= factor;
      XCOMPOSER_UNROLL
      for (int n = 0; n < kKeyTiles; ++n) {
        XCOMPOSER_UNROLL
        for (int i = 2 * r; i < 2 * r + 2; ++i) {
          scores[n][i] = Exp2((scores[n][i] - highest) * scale);
          sum[r] += scores[n][i];
        }
      }
      XCOMPOSER_UNROLL
      for (int n = 0; n < kDimTiles; ++n) {
        mixed[n][2 * r] *= factor;
        mixed[n][2 * r + 1] *= factor;
      }
    }
  }

  XCOMPOSER_DEVICE void Mix(const float (&weights)[kKeyTiles][4], const Shared<T>& values) {
    XCOMPOSER_UNROLL
    for (int s = 0; s < kPrefillKeys / 16; ++s) {
      // Two score tiles are the left factor's 16 columns, lane for lane.
      const float(&low)[4] = weights[2 * s];
      const float(&high)[4] = weights[2 * s + 1];
      const uint32_t a[4] = {Pack<T>(low[0], low[1]), Pack<T>(low[2], low[3]),
                             Pack<T>(high[0], high[1]), Pack<T>(high[2], high[3])};
      XCOMPOSER_UNROLL
      for (int n = 0; n < kDimTiles; n += 2) {
        // 16 keys by two tiles of 8 numbers: keys are the sum's direction, hence transposed.
        const int key = s * 16 + Lane() / 8 % 2 * 8 + Lane() % 8;
        uint32_t b[4];
        LoadMatricesTransposed(b, values, TileIndex<kDim>(key, n + Lane() / 16));
        MultiplyAdd<T>(mixed[n], a, b[0], b[1]);
        MultiplyAdd<T>(mixed[n + 1], a, b[2], b[3]);
      }
    }
  }

  /// Results of the warp's rows, to the places in `staging` that its queries had.
  XCOMPOSER_DEVICE void Finish(const Shared<T>& staging) {
    XCOMPOSER_UNROLL
    for (int r = 0; r < 2; ++r) {
      sum[r] += ShuffleXor(sum[r], 1);
      sum[r] += ShuffleXor(sum[r], 2);
      const int row = Warp() * 16 + Lane() / 4 + 8 * r;
      const float factor = 1.0f / sum[r];
      XCOMPOSER_UNROLL
      for (int n = 0; n < kDimTiles; ++n) {
        const int at = TileIndex<kDim>(row, n) + Lane() % 4 * 2;
        staging[at] = FromFloat<T>(mixed[n][2 * r] * factor);
        staging[at + 1] = FromFloat<T>(mixed[n][2 * r + 1] * factor);
      }
    }
  }
};

/// 64 rows of keys or values from `first_key` on; zeros from `keys` on.
template <typename T, int kDim, typename Source>
XCOMPOSER_DEVICE void CopyTile(const typename Source::Params& p, const PrefillTile& tile,
                               const T* from, int first_key, int head, const Shared<T>& to) {
  XCOMPOSER_UNROLL
  for (int i = 0; i < kPrefillKeys * kDim / 8 / kPrefillThreads; ++i) {
    const int at = i * kPrefillThreads + ThreadIndex();
    const int row = at / (kDim / 8);
    const int part = at % (kDim / 8);
    const bool valid = first_key + row < tile.keys;
    const T* source =
        valid ? from + Source::Offset(p, tile, first_key + row, head) + part * 8 : from;
    CopyAsync16(to, TileIndex<kDim>(row, part), source, valid);
  }
}

/// Grid (tiles of rows, heads).
template <typename T, int kDim, typename Source>
__global__ void __launch_bounds__(kPrefillThreads)
    PrefillAttentionKernel(typename Source::Params p) {
  GridDependencyLaunch();
  GridDependencyWait();
  // The last rows of a causal sequence see the most keys: they go first.
  PrefillTile tile;
  if (!Source::Locate(p, GridX() - 1 - BlockX(), tile)) return;
  const int head = BlockY();
  SharedArena arena;
  const Shared<T> queries = arena.Take<T>(kPrefillRows * kDim);
  const Shared<T> keys = arena.Take<T>(kPrefillKeys * kDim);
  const Shared<T> values = arena.Take<T>(kPrefillKeys * kDim);

  const int64_t query_stride = Source::QueryStride(p);
  const T* q = static_cast<const T*>(p.q) + tile.first_row * query_stride + head * kDim;
  for (int at = ThreadIndex(); at < kPrefillRows * kDim / 8; at += kPrefillThreads) {
    const int row = at / (kDim / 8);
    const int part = at % (kDim / 8);
    const bool valid = row < tile.rows;
    CopyAsync16(queries, TileIndex<kDim>(row, part), valid ? q + row * query_stride + part * 8 : q,
                valid);
  }
  CopyTile<T, kDim, Source>(p, tile, Source::Keys(p), 0, head, keys);
  CommitCopies();
  WaitCopies<0>();
  SyncThreads();  // queries and first keys have arrived, from all threads' copies

  PrefillWarp<T, kDim> warp;
  warp.Start(queries);
  constexpr int kPerRow = Source::kCausal ? 1 : 0;
  const int seen = tile.seen + Warp() * 16 * kPerRow;  // by the warp's first row
  for (int first = 0; first < tile.keys; first += kPrefillKeys) {
    CopyTile<T, kDim, Source>(p, tile, Source::Values(p), first, head, values);
    CommitCopies();
    float scores[PrefillWarp<T, kDim>::kKeyTiles][4];
    warp.Score(keys, scores);
    SyncThreads();  // all warps have read these keys before the next ones overwrite them
    if (first + kPrefillKeys < tile.keys) {
      CopyTile<T, kDim, Source>(p, tile, Source::Keys(p), first + kPrefillKeys, head, keys);
    }
    CommitCopies();
    if (first + kPrefillKeys > Min(seen, tile.keys)) {
      warp.Mask(scores, first, seen, kPerRow, tile.keys);
    }
    warp.Weigh(scores);
    WaitCopies<1>();
    SyncThreads();  // the values have arrived, from all threads' copies
    warp.Mix(scores, values);
    WaitCopies<0>();
    SyncThreads();  // the next keys have arrived, and the values were read, before they are
                    // replaced
  }

  warp.Finish(queries);
  SyncWarp();  // a warp stages and stores its own rows only
  T* out = static_cast<T*>(p.out) + (tile.first_row * Source::Heads(p) + head) * kDim;
  XCOMPOSER_UNROLL
  for (int i = 0; i < 16 * kDim / 8 / 32; ++i) {
    const int at = i * 32 + Lane();
    const int row = Warp() * 16 + at / (kDim / 8);
    const int part = at % (kDim / 8);
    if (row < tile.rows) {
      StoreVector(out + static_cast<int64_t>(row) * Source::Heads(p) * kDim + part * 8,
                  LoadVector(queries, TileIndex<kDim>(row, part)));
    }
  }
}

}  // namespace xcomposer::cuda
