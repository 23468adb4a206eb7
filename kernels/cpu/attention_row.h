#pragma once

#include "kernels/cpu/exponential.h"
#include "kernels/cpu/kernel_args.h"
#include "kernels/cpu/kv_head.h"
#include "kernels/cpu/simd.h"

namespace xcomposer::cpu {

inline constexpr int64_t kRowKeyBlock = 64;  // keys that are worked on at a time

/// Floats of scratch memory of an AttentionRow.
template <typename S>
constexpr int64_t AttentionRowFloats(int64_t heads) {
  return kRowKeyBlock * ((heads + S::kWidth - 1) / S::kWidth * S::kWidth);
}

/// One row, as a step of decoding has it, against a range of its keys: all heads together, so that
/// keys and values are read as they lie, each once. What comes out is not divided by its total yet:
/// the ranges of a row are put together afterwards.
template <typename S, KvFormat format>
class AttentionRow {
 public:
  AttentionRow(const AttentionRowArgs& args, float* scratch)
      : args_(args),
        scores_(scratch),
        lanes_(AttentionRowFloats<S>(args.heads) / kBlock),
        group_(args.heads / args.kv_heads),
        head_bytes_(KvHeadBytes(format, args.head_dim)),
        key_stride_(args.kv_heads * head_bytes_),
        ahead_(RowsAhead(key_stride_)) {}

  void Run() {
    Start();
    for (int64_t first = args_.first_key; first < args_.end_key; first += kBlock) {
      const int64_t left = args_.end_key - first;
      const int64_t count = left < kBlock ? left : kBlock;
      int64_t key = 0;
      for (; key + kScoreKeys <= count; key += kScoreKeys) Scores<kScoreKeys>(first, key, count);
      for (; key < count; ++key) Scores<1>(first, key, count);
      Softmax(count);
      for (key = 0; key + 4 <= count; key += 4) AddValues<4>(first, key, count);
      for (; key < count; ++key) AddValues<1>(first, key, count);
    }
  }

 private:
  using F = typename S::F;

  static constexpr int64_t kBlock = kRowKeyBlock;

  /// Keys whose scores are made together: with four heads each, a vector of them.
  static constexpr int kScoreKeys = static_cast<int>(S::kWidth / 4);

  // How far ahead rows are fetched: no processor looks ahead into the next page by itself, and a
  // key's row in float32 fills one in the 7B model. What is on its way shares the first cache with
  // the queries and sums of all heads: with 32 KiB of it, eight such rows took 13 to 22 % longer.
  static constexpr int64_t kMostAhead = 8;
  static constexpr int64_t kBytesAhead = 8192;

  static int64_t RowsAhead(int64_t row_bytes) {
    const int64_t rows = kBytesAhead / row_bytes;
    return rows < 1 ? 1 : rows < kMostAhead ? rows : kMostAhead;
  }

  /// All heads of a key's row in one of the caches.
  const char* RowOf(const void* cache, int64_t key) const {
    const KeySlot slot = SlotOf(args_.blocks, args_.block_size, key);
    return static_cast<const char*>(cache) +
           (slot.block * args_.block_size + slot.place) * key_stride_;
  }

  void Start() {
    for (int64_t i = 0; i < args_.heads * args_.head_dim; ++i) args_.sums[i] = 0.0f;
    for (int64_t lane = 0; lane < args_.heads; ++lane) {
      args_.maximum[lane] = -__builtin_inff();
      args_.total[lane] = 0.0f;
    }
    // Lanes past the last head are worked on with the others, and nobody reads them.
    for (int64_t i = 0; i < kBlock * lanes_; ++i) scores_[i] = 0.0f;
  }

  /// The row that is due after `key` + ahead_ others: of this block's keys, then its values, then
  /// the next block's keys.
  const char* Ahead(int64_t first, int64_t key, int64_t count, bool of_values) const {
    const int64_t ahead = key + ahead_;
    if (ahead < count) return RowOf(of_values ? args_.v : args_.k, first + ahead);
    const int64_t next = of_values ? first + ahead : first + ahead - count;
    if (next >= args_.end_key) return nullptr;
    return RowOf(of_values ? args_.k : args_.v, next);
  }

  void Fetch(const char* row, int64_t kv_head) const {
    if (row == nullptr) return;
    row += kv_head * head_bytes_;
    for (int64_t byte = 0; byte < head_bytes_; byte += 64) S::Prefetch(row + byte);
  }

  template <int kKeys>
  void Scores(int64_t first, int64_t key, int64_t count) {
    const char* rows[kKeys];
    const char* ahead[kKeys];
    for (int i = 0; i < kKeys; ++i) {
      rows[i] = RowOf(args_.k, first + key + i);
      ahead[i] = Ahead(first, key + i, count, /*of_values=*/false);
    }
    for (int64_t kv_head = 0; kv_head < args_.kv_heads; ++kv_head) {
      for (int i = 0; i < kKeys; ++i) Fetch(ahead[i], kv_head);
      const int64_t end = (kv_head + 1) * group_;
      int64_t head = kv_head * group_;
      for (; head + 4 <= end; head += 4) ScoresOf<kKeys, 4>(rows, key, head);
      for (; head + 2 <= end; head += 2) ScoresOf<kKeys, 2>(rows, key, head);
      if (head < end) ScoresOf<kKeys, 1>(rows, key, head);
      for (int i = 0; i < kKeys; ++i) rows[i] += head_bytes_;
    }
  }

  template <int kKeys>
  struct Groups {
    KvGroup<S, format> of[kKeys];
  };

  /// The groups of kKeys rows in which number d lies.
  template <int kKeys>
  XCOMPOSER_INLINE Groups<kKeys> GroupsAt(const char* const (&rows)[kKeys], int64_t d) const {
    static_assert(kKeys == 1 || kKeys == 2 || kKeys == 4);
    const auto at = [&](int i) {
      return KvGroup<S, format>(rows[i], args_.head_dim, d / kKvGroup);
    };
    if constexpr (kKeys == 1) {
      return {{at(0)}};
    } else if constexpr (kKeys == 2) {
      return {{at(0), at(1)}};
    } else {
      return {{at(0), at(1), at(2), at(3)}};
    }
  }

  /// Of kHeads heads that share a key's numbers.
  template <int kKeys, int kHeads>
  XCOMPOSER_INLINE void ScoresOf(const char* const (&rows)[kKeys], int64_t key, int64_t head) {
    const int64_t dim = args_.head_dim;
    const float* q = args_.q + head * dim;
    F sums[kKeys][kHeads];
    for (int i = 0; i < kKeys; ++i) {
      for (int h = 0; h < kHeads; ++h) sums[i][h] = S::Zero();
    }
    const auto add = [&](const F(&numbers)[kKeys], auto load, int64_t d)
        __attribute__((always_inline)) {
      XCOMPOSER_UNROLL
      for (int h = 0; h < kHeads; ++h) {
        const F query = load(q + h * dim + d);
        XCOMPOSER_UNROLL
        for (int i = 0; i < kKeys; ++i) sums[i][h] = S::Fma(numbers[i], query, sums[i][h]);
      }
    };
    for (int64_t begin = 0; begin < dim; begin += kKvGroup) {
      const int64_t end = begin + kKvGroup < dim ? begin + kKvGroup : dim;
      const auto groups = GroupsAt<kKeys>(rows, begin);
      F numbers[kKeys];
      int64_t d = begin;
      for (; d + S::kWidth <= end; d += S::kWidth) {
        XCOMPOSER_UNROLL
        for (int i = 0; i < kKeys; ++i) numbers[i] = groups.of[i].Load(d);
        add(
            numbers, [](const float* p) __attribute__((always_inline)) { return S::Load(p); }, d);
      }
      if (d < end) {
        const int64_t n = end - d;
        for (int i = 0; i < kKeys; ++i) numbers[i] = groups.of[i].LoadN(d, n);
        add(
            numbers, [n](const float* p) __attribute__((always_inline)) { return S::LoadN(p, n); },
            d);
      }
    }
    if constexpr (kKeys == kScoreKeys) {
      F fours[kKeys][4];
      for (int i = 0; i < kKeys; ++i) {
        for (int h = 0; h < 4; ++h) fours[i][h] = h < kHeads ? sums[i][h] : S::Zero();
      }
      float scores[S::kWidth];
      S::Store(scores, S::Mul(S::Set(args_.scale), S::SumFours(fours)));
      for (int i = 0; i < kKeys; ++i) {
        std::memcpy(scores_ + (key + i) * lanes_ + head, scores + 4 * i, kHeads * sizeof(float));
      }
    } else {
      for (int i = 0; i < kKeys; ++i) {
        float* scores = scores_ + (key + i) * lanes_ + head;
        for (int h = 0; h < kHeads; ++h) scores[h] = args_.scale * S::Sum(sums[i][h]);
      }
    }
  }

  /// Turns scores into e^(score - maximum), and brings maximum, total and sums up to date.
  void Softmax(int64_t count) {
    for (int64_t lane = 0; lane < args_.heads; lane += S::kWidth) {
      const int64_t n = args_.heads - lane;
      const bool whole = n >= S::kWidth;
      const auto load = [&](const float* p) { return whole ? S::Load(p) : S::LoadN(p, n); };
      float* scores = scores_ + lane;
      const F before = load(args_.maximum + lane);
      F maximum = before;
      for (int64_t key = 0; key < count; ++key) {
        maximum = S::Max(maximum, S::Load(scores + key * lanes_));
      }
      F total = S::Zero();
      for (int64_t key = 0; key < count; ++key) {
        const F probability = Exp<S>(S::Sub(S::Load(scores + key * lanes_), maximum));
        S::Store(scores + key * lanes_, probability);
        total = S::Add(total, probability);
      }
      const F decay = Exp<S>(S::Sub(before, maximum));
      total = S::Fma(load(args_.total + lane), decay, total);
      float decays[S::kWidth];
      S::Store(decays, decay);
      if (whole) {
        S::Store(args_.maximum + lane, maximum);
        S::Store(args_.total + lane, total);
      } else {
        S::StoreN(args_.maximum + lane, maximum, n);
        S::StoreN(args_.total + lane, total, n);
      }
      for (int64_t i = 0; i < S::kWidth && i < n; ++i) Shrink(lane + i, decays[i]);
    }
  }

  void Shrink(int64_t head, float decay) {
    if (decay == 1.0f) return;
    float* sums = args_.sums + head * args_.head_dim;
    for (int64_t d = 0; d < args_.head_dim; ++d) sums[d] *= decay;
  }

  /// Adds probability * value of kKeys keys to the sums of all heads.
  template <int kKeys>
  void AddValues(int64_t first, int64_t key, int64_t count) {
    const char* rows[kKeys];
    const char* ahead[kKeys];
    for (int i = 0; i < kKeys; ++i) {
      rows[i] = RowOf(args_.v, first + key + i);
      ahead[i] = Ahead(first, key + i, count, /*of_values=*/true);
    }
    for (int64_t kv_head = 0; kv_head < args_.kv_heads; ++kv_head) {
      for (int i = 0; i < kKeys; ++i) Fetch(ahead[i], kv_head);
      int64_t d = 0;
      for (; d + 2 * S::kWidth <= args_.head_dim; d += 2 * S::kWidth) {
        AddColumns<kKeys, 2>(rows, key, kv_head, d, S::kWidth);
      }
      for (; d < args_.head_dim; d += S::kWidth) {
        AddColumns<kKeys, 1>(rows, key, kv_head, d, args_.head_dim - d);
      }
      for (int i = 0; i < kKeys; ++i) rows[i] += head_bytes_;
    }
  }

  /// kVectors vectors of the values, from number d on; of a single one that is less than whole, the
  /// first n.
  template <int kKeys, int kVectors>
  XCOMPOSER_INLINE void AddColumns(const char* const (&rows)[kKeys], int64_t key, int64_t kv_head,
                                   int64_t d, int64_t n) {
    const bool whole = kVectors > 1 || n >= S::kWidth;
    const auto load = [&](const float* p) __attribute__((always_inline)) {
      return whole ? S::Load(p) : S::LoadN(p, n);
    };
    static_assert(kKvGroup % (kVectors * S::kWidth) == 0);
    F columns[kKeys][kVectors];
    XCOMPOSER_UNROLL
    for (int i = 0; i < kKeys; ++i) {
      const KvGroup<S, format> numbers(rows[i], args_.head_dim, d / kKvGroup);
      XCOMPOSER_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        const int64_t place = d + v * S::kWidth;
        columns[i][v] = whole ? numbers.Load(place) : numbers.LoadN(place, n);
      }
    }
    // Copies: after every store of a vector the compiler would read the originals again.
    const int64_t dim = args_.head_dim;
    const int64_t lanes = lanes_;
    float* place = args_.sums + kv_head * group_ * dim + d;
    const float* probability = scores_ + key * lanes + kv_head * group_;
    for (int64_t left = group_; left > 0; --left, place += dim, ++probability) {
      F sums[kVectors];
      XCOMPOSER_UNROLL
      for (int v = 0; v < kVectors; ++v) sums[v] = load(place + v * S::kWidth);
      XCOMPOSER_UNROLL
      for (int i = 0; i < kKeys; ++i) {
        const F factor = S::Set(probability[i * lanes]);
        XCOMPOSER_UNROLL
        for (int v = 0; v < kVectors; ++v) sums[v] = S::Fma(factor, columns[i][v], sums[v]);
      }
      XCOMPOSER_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        if (whole) {
          S::Store(place + v * S::kWidth, sums[v]);
        } else {
          S::StoreN(place, sums[v], n);
        }
      }
    }
  }

  const AttentionRowArgs& args_;
  float* const scores_;  // (key of the block, head), then probabilities
  const int64_t lanes_;  // heads, rounded up to whole vectors
  const int64_t group_;  // heads that share a key
  const int64_t head_bytes_;
  const int64_t key_stride_;
  const int64_t ahead_;  // keys
};

}  // namespace xcomposer::cpu
