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

/// The places of a tile's intermediate results in its scratch memory.
template <typename S>
struct AttentionScratch {
  static constexpr int64_t kKeyPanels = (kKeyBlock + S::kRows - 1) / S::kRows;

  AttentionScratch(float* memory, int64_t head_dim) {
    queries = memory;
    sums = queries + head_dim * kAttentionLanes<S>;
    scores = sums + head_dim * kAttentionLanes<S>;
    keys = scores + kKeyBlock * kAttentionLanes<S>;
    values = keys + kKeyPanels * S::kRows * head_dim;
    maximum = values + kKeyBlock * head_dim;
    total = maximum + kAttentionLanes<S>;
    decay = total + kAttentionLanes<S>;
    limit = decay + kAttentionLanes<S>;
  }

  static constexpr int64_t Floats(int64_t head_dim) {
    return head_dim * (2 * kAttentionLanes<S> + kKeyPanels * S::kRows + kKeyBlock) +
           (kKeyBlock + 4) * kAttentionLanes<S>;
  }

  // With products of pairs: pairs of d, and of keys for probabilities and values.
  float* queries;  // (d, lane)
  float* sums;     // (d, lane), of probability * value
  float* scores;   // (key, lane), then probabilities
  float* keys;     // (panel, d, key of the panel)
  float* values;   // (key, d)
  float* maximum;  // (lane), of the scores so far
  float* total;    // (lane), of the probabilities so far
  float* decay;    // (lane), by which the earlier sums shrink at this block
  float* limit;    // (lane), number of keys it sees
};

/// P forms the products: S itself, or pairs of bfloat16 (bfloat_pairs.h), to which queries, keys,
/// values and probabilities are then rounded. Everything else is float32 either way.
template <typename S, KvFormat format, typename P = S>
class AttentionTile {
 public:
  AttentionTile(const AttentionTileArgs& args, float* memory)
      : args_(args),
        at_(memory, args.head_dim),
        lanes_(args.rows * args.heads),
        width_((lanes_ + S::kWidth - 1) / S::kWidth * S::kWidth) {}

  void Run() {
    StartLanes();
    PackQueries();
    const int64_t all = args_.keys + args_.keys_per_row * (args_.rows - 1);
    for (int64_t first = 0; first < all; first += kKeyBlock) {
      const int64_t count = all - first < kKeyBlock ? all - first : kKeyBlock;
      GatherKeys(first, count);
      Scores(count);
      // Only the last blocks hold keys that some rows must not see.
      if (first + count > args_.keys) {
        Softmax<true>(first, count);
      } else {
        Softmax<false>(first, count);
      }
      AddValues(count, first == 0);
    }
    Write();
  }

 private:
  using F = typename S::F;
  static constexpr int64_t kStride = kAttentionLanes<S>;
  static constexpr int64_t kColumns = S::kVectors * S::kWidth;
  static constexpr bool kPairs = P::kMultipliesPairs;

  /// Turns of a product over so many numbers.
  static constexpr int64_t Turns(int64_t count) { return kPairs ? (count + 1) / 2 : count; }

  const float* Query(int64_t lane) const {
    return args_.q + lane / args_.heads * args_.row_stride + lane % args_.heads * args_.head_stride;
  }

  /// Lanes past the end repeat the last one; nobody reads them.
  int64_t RealLane(int64_t lane) const { return lane < lanes_ ? lane : lanes_ - 1; }

  void PackQueries() {
    for (int64_t lane = 0; lane < width_; ++lane) {
      const float* q = Query(RealLane(lane));
      if constexpr (kPairs) {
        constexpr int64_t kStep = 2 * P::kWidth;
        float pairs[P::kWidth];
        for (int64_t d = 0; d < args_.head_dim; d += kStep) {
          const int64_t count = args_.head_dim - d < kStep ? args_.head_dim - d : kStep;
          RoundToPairs<P>(q + d, count, pairs);
          for (int64_t i = 0; i < Turns(count); ++i) {
            at_.queries[(d / 2 + i) * kStride + lane] = pairs[i];
          }
        }
      } else {
        for (int64_t d = 0; d < args_.head_dim; ++d) at_.queries[d * kStride + lane] = q[d];
      }
    }
  }

  void StartLanes() {
    for (int64_t lane = 0; lane < width_; ++lane) {
      const int64_t real = RealLane(lane);
      at_.maximum[lane] = -__builtin_inff();
      at_.total[lane] = 0.0f;
      at_.limit[lane] = static_cast<float>(args_.keys + args_.keys_per_row * (real / args_.heads));
    }
  }

  int64_t KeyOffset(int64_t key) const {
    return args_.blocks[key / args_.block_size] * args_.block_stride +
           key % args_.block_size * args_.key_stride;
  }

  void GatherKeys(int64_t first, int64_t count) {
    const int64_t dim = args_.head_dim;
    for (int64_t panel = 0; panel < count; panel += S::kRows) {
      const int64_t end = panel + S::kRows < count ? panel + S::kRows : count;
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

  int Vectors(int64_t lane) const {
    return width_ - lane < kColumns ? static_cast<int>((width_ - lane) / S::kWidth) : S::kVectors;
  }

  void Scores(int64_t count) {
    const F scale = S::Set(args_.scale);
    for (int64_t lane = 0; lane < width_; lane += kColumns) {
      for (int64_t key = 0; key < count; key += S::kRows) {
        const int rows = count - key < S::kRows ? static_cast<int>(count - key) : S::kRows;
        const TileFactors factors{.depth = Turns(args_.head_dim),
                                  .a = at_.keys + key * args_.head_dim,
                                  .a_stride = S::kRows,
                                  .b = at_.queries + lane,
                                  .b_stride = kStride};
        float* out = at_.scores + key * kStride + lane;
        TileOf<P>(
            rows, Vectors(lane), factors,
            [ out, scale ](int i, int v, F sum) __attribute__((always_inline)) {
              S::Store(out + i * kStride + v * S::kWidth, S::Mul(sum, scale));
            });
      }
    }
  }

  /// Turns scores into e^(score - maximum) and brings maximum, total and decay up to date.
  template <bool kMasked>
  void Softmax(int64_t first, int64_t count) {
    for (int64_t lane = 0; lane < width_; lane += S::kWidth) {
      float* scores = at_.scores + lane;
      const F before = S::Load(at_.maximum + lane);
      const F limit = S::Load(at_.limit + lane);
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
      S::Store(at_.maximum + lane, maximum);
      S::Store(at_.total + lane, S::Fma(S::Load(at_.total + lane), decay, total));
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

  void AddValues(int64_t count, bool fresh) {
    for (int64_t lane = 0; lane < width_; lane += kColumns) {
      for (int64_t d = 0; d < args_.head_dim; d += S::kRows) {
        const int64_t left = args_.head_dim - d;
        const TileFactors factors{.depth = Turns(count),
                                  .a = at_.values + d,
                                  .a_stride = args_.head_dim,
                                  .b = at_.scores + lane,
                                  .b_stride = kStride};
        float* out = at_.sums + d * kStride + lane;
        const float* decay = at_.decay + lane;
        TileOf<P>(
            left < S::kRows ? static_cast<int>(left) : S::kRows, Vectors(lane), factors,
            [ out, decay, fresh ](int i, int v, F sum) __attribute__((always_inline)) {
              float* place = out + i * kStride + v * S::kWidth;
              const F old = fresh ? S::Zero() : S::Load(place);
              S::Store(place, S::Fma(old, S::Load(decay + v * S::kWidth), sum));
            });
      }
    }
  }

  void Write() const {
    for (int64_t lane = 0; lane < lanes_; ++lane) {
      float* out = args_.out + (Query(lane) - args_.q);
      const float total = at_.total[lane];
      for (int64_t d = 0; d < args_.head_dim; ++d) out[d] = at_.sums[d * kStride + lane] / total;
    }
  }

  const AttentionTileArgs& args_;
  const AttentionScratch<S> at_;
  const int64_t lanes_;
  const int64_t width_;  // lanes, rounded up to whole vectors
};

template <typename S, KvFormat format, typename P = S>
void RunAttentionTile(const AttentionTileArgs& args, float* scratch) {
  AttentionTile<S, format, P>(args, scratch).Run();
}

}  // namespace xcomposer::cpu
