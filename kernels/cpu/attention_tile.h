#pragma once

#include "kernels/cpu/bfloat_pairs.h"
#include "kernels/cpu/exponential.h"
#include "kernels/cpu/kernel_args.h"
#include "kernels/cpu/kv_head.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/tile.h"

namespace xcomposer::cpu {

/// Most lanes of a tile.
template <typename S>
inline constexpr int64_t kAttentionLanes = (S::kWidth == 8 ? 3 : 2) * S::kVectors* S::kWidth;

/// Keys that are worked on at a time.
inline constexpr int64_t kKeyBlock = 96;

/// The places of intermediate results in scratch memory.
template <typename S>
struct AttentionScratch {
  static constexpr int64_t kKeyPanels = (kKeyBlock + S::kRows - 1) / S::kRows;

  AttentionScratch(float* memory, int64_t head_dim) {
    keys = memory;
    values = keys + kKeyPanels * S::kRows * head_dim;
    scores = values + kKeyBlock * head_dim;
    decay = scores + kKeyBlock * kAttentionLanes<S>;
    tiles = decay + kAttentionLanes<S>;
  }

  static constexpr int64_t TileFloats(int64_t head_dim) {
    return (2 * head_dim + 3) * kAttentionLanes<S>;
  }

  static constexpr int64_t Floats(int64_t head_dim) {
    return head_dim * (kKeyPanels * S::kRows + kKeyBlock) + (kKeyBlock + 1) * kAttentionLanes<S> +
           kAttentionTiles * TileFloats(head_dim);
  }

  // With products of pairs: pairs of d, and of keys for probabilities and values.
  float* keys;    // (panel, d, key of the panel)
  float* values;  // (key, d)
  float* scores;  // (key, lane), then probabilities, of one tile
  float* decay;   // (lane), by which its earlier sums shrink at this block
  float* tiles;   // TileFloats each
};

/// P forms the products: S itself, or pairs of bfloat16 (bfloat_pairs.h), to which queries, keys,
/// values and probabilities are then rounded. Everything else is float32 either way.
///
/// Keys and values are gathered block by block, once for all tiles.
template <typename S, KvFormat format, typename P = S>
class AttentionTiles {
 public:
  AttentionTiles(const AttentionTileArgs& args, float* memory)
      : args_(args),
        at_(memory, args.head_dim),
        tiles_((args.rows + args.tile_rows - 1) / args.tile_rows),
        all_keys_(args.keys + args.keys_per_row * (args.rows - 1)) {
    for (int64_t i = 0; i < tiles_; ++i) SetTile(i);
  }

  void Run() {
    for (int64_t i = 0; i < tiles_; ++i) {
      StartLanes(tile_[i]);
      PackQueries(tile_[i]);
    }
    for (int64_t first = 0; first < all_keys_; first += kKeyBlock) {
      GatherKeys(first, CountOf(all_keys_, first));
      for (int64_t i = 0; i < tiles_; ++i) {
        if (first < tile_[i].all_keys) AddKeys(tile_[i], first);
      }
    }
    for (int64_t i = 0; i < tiles_; ++i) Write(tile_[i]);
  }

 private:
  using F = typename S::F;
  static constexpr int64_t kStride = kAttentionLanes<S>;
  static constexpr int64_t kColumns = S::kVectors * S::kWidth;
  static constexpr bool kPairs = P::kMultipliesPairs;

  struct LaneTile {
    const float* q = nullptr;  ///< of the first row and head
    float* out = nullptr;
    int64_t lanes = 0;
    int64_t width = 0;         ///< lanes, rounded up to whole vectors
    int64_t keys = 0;          ///< seen by the first row
    int64_t all_keys = 0;      ///< seen by the last row
    float* queries = nullptr;  ///< (d, lane)
    float* sums = nullptr;     ///< (d, lane), of probability * value
    float* maximum = nullptr;  ///< (lane), of the scores so far
    float* total = nullptr;    ///< (lane), of the probabilities so far
    float* limit = nullptr;    ///< (lane), number of keys it sees
  };

  void SetTile(int64_t i) {
    LaneTile& tile = tile_[i];
    const int64_t row = i * args_.tile_rows;
    const int64_t left = args_.rows - row;
    const int64_t rows = left < args_.tile_rows ? left : args_.tile_rows;
    tile.q = args_.q + row * args_.row_stride;
    tile.out = args_.out + row * args_.row_stride;
    tile.lanes = rows * args_.heads;
    tile.width = (tile.lanes + S::kWidth - 1) / S::kWidth * S::kWidth;
    tile.keys = args_.keys + args_.keys_per_row * row;
    tile.all_keys = tile.keys + args_.keys_per_row * (rows - 1);
    tile.queries = at_.tiles + i * AttentionScratch<S>::TileFloats(args_.head_dim);
    tile.sums = tile.queries + args_.head_dim * kStride;
    tile.maximum = tile.sums + args_.head_dim * kStride;
    tile.total = tile.maximum + kStride;
    tile.limit = tile.total + kStride;
  }

  static int64_t CountOf(int64_t keys, int64_t first) {
    return keys - first < kKeyBlock ? keys - first : kKeyBlock;
  }

  /// The gathered keys, as far as the tile sees them.
  void AddKeys(const LaneTile& tile, int64_t first) {
    const int64_t count = CountOf(tile.all_keys, first);
    Scores(tile, count);
    // Only the last blocks hold keys that some rows must not see.
    if (first + count > tile.keys) {
      Softmax<true>(tile, first, count);
    } else {
      Softmax<false>(tile, first, count);
    }
    AddValues(tile, count, first == 0);
  }

  /// Turns of a product over so many numbers.
  static constexpr int64_t Turns(int64_t count) { return kPairs ? (count + 1) / 2 : count; }

  /// From the first query of a tile on.
  int64_t QueryOffset(int64_t lane) const {
    return lane / args_.heads * args_.row_stride + lane % args_.heads * args_.head_stride;
  }

  /// Lanes past the end repeat the last one; nobody reads them.
  static int64_t RealLane(const LaneTile& tile, int64_t lane) {
    return lane < tile.lanes ? lane : tile.lanes - 1;
  }

  void PackQueries(const LaneTile& tile) const {
    for (int64_t lane = 0; lane < tile.width; ++lane) {
      const float* q = tile.q + QueryOffset(RealLane(tile, lane));
      if constexpr (kPairs) {
        constexpr int64_t kStep = 2 * P::kWidth;
        float pairs[P::kWidth];
        for (int64_t d = 0; d < args_.head_dim; d += kStep) {
          const int64_t count = args_.head_dim - d < kStep ? args_.head_dim - d : kStep;
          RoundToPairs<P>(q + d, count, pairs);
          for (int64_t i = 0; i < Turns(count); ++i) {
            tile.queries[(d / 2 + i) * kStride + lane] = pairs[i];
          }
        }
      } else {
        for (int64_t d = 0; d < args_.head_dim; ++d) tile.queries[d * kStride + lane] = q[d];
      }
    }
  }

  void StartLanes(const LaneTile& tile) const {
    for (int64_t lane = 0; lane < tile.width; ++lane) {
      const int64_t row = RealLane(tile, lane) / args_.heads;
      tile.maximum[lane] = -__builtin_inff();
      tile.total[lane] = 0.0f;
      tile.limit[lane] = static_cast<float>(tile.keys + args_.keys_per_row * row);
    }
  }

  int64_t KeyOffset(int64_t key) const {
    const KeySlot slot = SlotOf(args_.blocks, args_.block_size, key);
    return slot.block * args_.block_stride + slot.place * args_.key_stride;
  }

  /// Asks for the panel of keys, and their values, that begins at `key`: they lie pages apart,
  /// where the processor does not look ahead by itself.
  void FetchPanel(int64_t key) const {
    const int64_t left = all_keys_ - key;
    const int64_t bytes = KvHeadBytes(format, args_.head_dim);
    for (int64_t i = 0; i < S::kRows && i < left; ++i) {
      const int64_t offset = KeyOffset(key + i);
      for (int64_t byte = offset; byte < offset + bytes; byte += 64) {
        S::Prefetch(static_cast<const char*>(args_.k) + byte);
        S::Prefetch(static_cast<const char*>(args_.v) + byte);
      }
    }
  }

  void GatherKeys(int64_t first, int64_t count) {
    const int64_t dim = args_.head_dim;
    for (int64_t panel = 0; panel < count; panel += S::kRows) {
      const int64_t end = panel + S::kRows < count ? panel + S::kRows : count;
      FetchPanel(first + end);
      const float* rows[S::kRows];
      for (int64_t i = 0; i < S::kRows; ++i) {
        const int64_t key = panel + i < end ? panel + i : end - 1;
        rows[i] = Key(first + key, at_.values + key * dim);
      }
      PackKeys(rows, at_.keys + panel * dim);
      for (int64_t key = panel; key < end; ++key) {
        const char* value = static_cast<const char*>(args_.v) + KeyOffset(first + key);
        WidenKvHead<S, format>(value, dim, at_.values + key * dim);
      }
      if constexpr (kPairs) PairValues(panel, end);
    }
  }

  /// A panel of keys side by side.
  void PackKeys(const float* (&rows)[S::kRows], float* out) const {
    const int64_t dim = args_.head_dim;
    if constexpr (kPairs) {
      constexpr int64_t kStep = 2 * P::kWidth;
      float pairs[S::kRows * P::kWidth];
      for (int64_t d = 0; d < dim; d += kStep) {
        const int64_t count = dim - d < kStep ? dim - d : kStep;
        for (int i = 0; i < S::kRows; ++i) {
          RoundToPairs<P>(rows[i] + d, count, pairs + i * P::kWidth);
        }
        PackPanel<S>(pairs, P::kWidth, 0, S::kRows, Turns(count), out + d / 2 * S::kRows);
      }
    } else {
      PackSideBySide<S>(rows, dim, out);
    }
  }

  /// The values of keys [begin, end), begin even, two in a row. What is overwritten has been read.
  void PairValues(int64_t begin, int64_t end) const {
    const int64_t dim = args_.head_dim;
    for (int64_t key = begin; key < end; key += 2) {
      const float* even = at_.values + key * dim;
      const float* odd = even + dim;
      float* out = at_.values + key / 2 * dim;
      const bool both = key + 1 < end;
      int64_t d = 0;
      for (; d + S::kWidth <= dim; d += S::kWidth) {
        S::Store(out + d, P::PairLanes(S::Load(even + d), both ? S::Load(odd + d) : S::Zero()));
      }
      if (d == dim) continue;
      const int64_t left = dim - d;
      S::StoreN(out + d,
                P::PairLanes(S::LoadN(even + d, left), both ? S::LoadN(odd + d, left) : S::Zero()),
                left);
    }
  }

  /// A key's floats: as they lie, or widened to `memory`.
  const float* Key(int64_t key, float* memory) const {
    const char* place = static_cast<const char*>(args_.k) + KeyOffset(key);
    if constexpr (format == KvFormat::kFloat32) {
      return reinterpret_cast<const float*>(place);
    } else {
      WidenKvHead<S, format>(place, args_.head_dim, memory);
      return memory;
    }
  }

  static int Vectors(const LaneTile& tile, int64_t lane) {
    const int64_t left = tile.width - lane;
    return left < kColumns ? static_cast<int>(left / S::kWidth) : S::kVectors;
  }

  void Scores(const LaneTile& tile, int64_t count) const {
    const F scale = S::Set(args_.scale);
    for (int64_t lane = 0; lane < tile.width; lane += kColumns) {
      for (int64_t key = 0; key < count; key += S::kRows) {
        const int rows = count - key < S::kRows ? static_cast<int>(count - key) : S::kRows;
        const TileFactors factors{.depth = Turns(args_.head_dim),
                                  .a = at_.keys + key * args_.head_dim,
                                  .a_stride = S::kRows,
                                  .b = tile.queries + lane,
                                  .b_stride = kStride};
        float* out = at_.scores + key * kStride + lane;
        TileOf<P>(
            rows, Vectors(tile, lane), factors,
            [ out, scale ](int i, int v, F sum) __attribute__((always_inline)) {
              S::Store(out + i * kStride + v * S::kWidth, S::Mul(sum, scale));
            });
      }
    }
  }

  /// Turns scores into e^(score - maximum) and brings maximum, total and decay up to date.
  template <bool kMasked>
  void Softmax(const LaneTile& tile, int64_t first, int64_t count) const {
    for (int64_t lane = 0; lane < tile.width; lane += S::kWidth) {
      float* scores = at_.scores + lane;
      const F before = S::Load(tile.maximum + lane);
      const F limit = S::Load(tile.limit + lane);
      F maximum = before;
      for (int64_t key = 0; key < count; ++key) {
        F score = S::Load(scores + key * kStride);
        if constexpr (kMasked) {
          score = S::Less(S::Set(static_cast<float>(first + key)), limit, score,
                          S::Set(-__builtin_inff()));
          S::Store(scores + key * kStride, score);
        }
        maximum = S::Max(maximum, score);
      }
      const F total = Probabilities(scores, count, maximum);
      // Every lane sees the first key, so that `maximum` is finite from the first block on.
      const F decay = Exp<S>(S::Sub(before, maximum));
      S::Store(at_.decay + lane, decay);
      S::Store(tile.maximum + lane, maximum);
      S::Store(tile.total + lane, S::Fma(S::Load(tile.total + lane), decay, total));
    }
  }

  /// e^(score - maximum) in their place, or the pairs of them; their sum.
  F Probabilities(float* scores, int64_t count, F maximum) const {
    const auto at = [&](int64_t key) __attribute__((always_inline)) {
      return Exp<S>(S::Sub(S::Load(scores + key * kStride), maximum));
    };
    F total = S::Zero();
    if constexpr (kPairs) {
      for (int64_t key = 0; key < count; key += 2) {
        const F even = at(key);
        const F odd = key + 1 < count ? at(key + 1) : S::Zero();
        S::Store(scores + key / 2 * kStride, P::PairLanes(even, odd));
        total = S::Add(total, S::Add(even, odd));
      }
    } else {
      for (int64_t key = 0; key < count; ++key) {
        const F probability = at(key);
        S::Store(scores + key * kStride, probability);
        total = S::Add(total, probability);
      }
    }
    return total;
  }

  void AddValues(const LaneTile& tile, int64_t count, bool fresh) const {
    for (int64_t lane = 0; lane < tile.width; lane += kColumns) {
      for (int64_t d = 0; d < args_.head_dim; d += S::kRows) {
        const int64_t left = args_.head_dim - d;
        const TileFactors factors{.depth = Turns(count),
                                  .a = at_.values + d,
                                  .a_stride = args_.head_dim,
                                  .b = at_.scores + lane,
                                  .b_stride = kStride};
        float* out = tile.sums + d * kStride + lane;
        const float* decay = at_.decay + lane;
        TileOf<P>(
            left < S::kRows ? static_cast<int>(left) : S::kRows, Vectors(tile, lane), factors,
            [ out, decay, fresh ](int i, int v, F sum) __attribute__((always_inline)) {
              float* place = out + i * kStride + v * S::kWidth;
              const F old = fresh ? S::Zero() : S::Load(place);
              S::Store(place, S::Fma(old, S::Load(decay + v * S::kWidth), sum));
            });
      }
    }
  }

  void Write(const LaneTile& tile) const {
    for (int64_t lane = 0; lane < tile.lanes; ++lane) {
      float* out = tile.out + QueryOffset(lane);
      const float total = tile.total[lane];
      for (int64_t d = 0; d < args_.head_dim; ++d) out[d] = tile.sums[d * kStride + lane] / total;
    }
  }

  const AttentionTileArgs& args_;
  const AttentionScratch<S> at_;
  const int64_t tiles_;
  const int64_t all_keys_;
  LaneTile tile_[kAttentionTiles];
};

template <typename S, KvFormat format, typename P = S>
void RunAttentionTiles(const AttentionTileArgs& args, float* scratch) {
  AttentionTiles<S, format, P>(args, scratch).Run();
}

}  // namespace xcomposer::cpu
