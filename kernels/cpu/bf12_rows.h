#pragma once

#include "kernels/cpu/bf12_matrix.h"
#include "kernels/cpu/kernel_args.h"
#include "kernels/cpu/linear_panels.h"
#include "kernels/cpu/linear_rows.h"
#include "kernels/cpu/linear_stream.h"
#include "kernels/cpu/simd.h"

namespace xcomposer::cpu {

// Weights in 12 bits (bf12_matrix.h). One to kMostBf12Rows rows of x meet the numbers as they come
// out of their words, in the order in which linear_rows.h takes those of a bfloat16 matrix, and a
// row's scale is a power of two: sums have the same bits. For more rows of x, pieces of the weight
// become bfloat16 again, in the cache, and go through the kernels for that.

/// Most rows of x whose sums, of four outputs each, fit into registers.
template <typename S>
inline constexpr int kMostBf12Rows = S::kWidth == 16  ? 4
                                     : S::kWidth == 8 ? 2
                                                      : 0;

/// Words of a block of four rows.
inline constexpr int64_t kBf12BlockWords = kBf12Rows * kBf12Words;

/// The eight numbers of some lanes of one row's block.
template <typename S>
class Bf12Lanes {
 public:
  using W = typename S::W;

  explicit XCOMPOSER_INLINE Bf12Lanes(const uint32_t* words)
      : first_(S::LoadWords(words)),
        second_(S::LoadWords(words + kBf12Words / 3)),
        third_(S::LoadWords(words + 2 * (kBf12Words / 3))) {}

  /// Number `field` of each lane in the upper 12 bits of its word, others below.
  XCOMPOSER_INLINE W Field(int field) const {
    switch (field) {
      case 0:
        return first_;
      case 1:
        return S::template Raised<12>(first_);
      case 2:
        return second_;
      case 3:
        return S::template Raised<12>(second_);
      case 4:
        return third_;
      case 5:
        return S::template Raised<12>(third_);
      case 6:
        return S::WithNibble(S::template Raised<24>(first_), S::template Raised<16>(second_));
      default:
        return S::WithNibble(S::template Raised<24>(third_), S::template Raised<20>(second_));
    }
  }

 private:
  W first_;
  W second_;
  W third_;
};

/// Where the outliers of four rows are, block by block.
class Bf12Outliers {
 public:
  XCOMPOSER_INLINE Bf12Outliers(const LinearKernelArgs& args, int64_t panel)
      : next_(args.outliers + args.outliers[panel]),
        end_(args.outliers + args.outliers[panel + 1]) {}

  /// Leaves out those before input k.
  XCOMPOSER_INLINE void SkipTo(int64_t k) {
    while (next_ != end_ && *next_ < k * kBf12Rows) next_ += 2;
  }
  XCOMPOSER_INLINE bool Any(int64_t k_end) const {
    return next_ != end_ && *next_ < k_end * kBf12Rows;
  }
  /// The next one's place and bits.
  XCOMPOSER_INLINE void Take(int64_t& row, int64_t& k, float& value) {
    row = next_[0] % kBf12Rows;
    k = next_[0] / kBf12Rows;
    std::memcpy(&value, next_ + 1, sizeof(value));
    next_ += 2;
  }

 private:
  const int32_t* next_;
  const int32_t* end_;
};

/// All kRows rows of x with the outputs of panels.
template <typename S, int kRows>
class Bf12Dots {
 public:
  explicit Bf12Dots(const LinearKernelArgs& args) : args_(args) {}

  /// Outputs [n, n + kBf12Rows).
  void Run(int64_t n) const {
    const int64_t blocks = args_.depth / kBf12Block;
    const auto* words =
        static_cast<const uint32_t*>(args_.weight) + n / kBf12Rows * blocks * kBf12BlockWords;
    const float* x = args_.packed_x;
    Bf12Outliers outliers(args_, n / kBf12Rows);
    F sums[kBf12Rows][kRows];
    XCOMPOSER_UNROLL
    for (int r = 0; r < kBf12Rows; ++r) {
      XCOMPOSER_UNROLL
      for (int t = 0; t < kRows; ++t) sums[r][t] = S::Zero();
    }
    for (int64_t k = 0; k < args_.depth; k += kBf12Block) {
      const char* ahead = reinterpret_cast<const char*>(words) + kStreamAhead;
      XCOMPOSER_UNROLL
      for (int line = 0; line < kBf12BlockWords / 16; ++line) S::Prefetch(ahead + 64 * line);
      if (outliers.Any(k + kBf12Block)) {
        AddPatched(words, k, x, outliers, sums);
      } else {
        XCOMPOSER_UNROLL
        for (int r = 0; r < kBf12Rows; ++r) Add(Words(words + r * kBf12Words), x, sums[r]);
      }
      words += kBf12BlockWords;
      x += kBf12Block * kRows;
    }
    const auto* scales = static_cast<const float*>(args_.scales) + n;
    XCOMPOSER_UNROLL
    for (int r = 0; r < kBf12Rows; ++r) {
      XCOMPOSER_UNROLL
      for (int t = 0; t < kRows; ++t) {
        FinishSum(args_, t, n + r, S::Sum(sums[r][t]) * scales[r]);
      }
    }
  }

 private:
  using F = typename S::F;
  static constexpr int kFields = 8;
  static constexpr int kLanes = 16;
  static constexpr int kHalves = kLanes / static_cast<int>(S::kWidth);

  /// The numbers as they lie in words.
  class Words {
   public:
    explicit XCOMPOSER_INLINE Words(const uint32_t* words) : words_(words) {}
    struct Held {
      Bf12Lanes<S> lanes[kHalves];
      XCOMPOSER_INLINE F At(int field, int half) const {
        return S::PackedNumbers(lanes[half].Field(field));
      }
    };
    XCOMPOSER_INLINE Held Hold() const {
      if constexpr (kHalves == 1) {
        return {{Bf12Lanes<S>(words_)}};
      } else {
        return {{Bf12Lanes<S>(words_), Bf12Lanes<S>(words_ + S::kWidth)}};
      }
    }

   private:
    const uint32_t* words_;
  };

  /// The numbers as floats, (field, lane).
  class Floats {
   public:
    explicit XCOMPOSER_INLINE Floats(const float* numbers) : numbers_(numbers) {}
    XCOMPOSER_INLINE const Floats& Hold() const { return *this; }
    XCOMPOSER_INLINE F At(int field, int half) const {
      return S::Load(numbers_ + field * kLanes + half * S::kWidth);
    }

   private:
    const float* numbers_;
  };

  /// Adds the products of one row's block: even inputs before odd ones, as of bfloat16.
  template <typename Numbers>
  static XCOMPOSER_INLINE void Add(const Numbers& numbers, const float* x, F (&sums)[kRows]) {
    const auto& held = numbers.Hold();
    XCOMPOSER_UNROLL
    for (int pair = 0; pair < kFields / 2; ++pair) {
      XCOMPOSER_UNROLL
      for (int half = 0; half < kHalves; ++half) {
        XCOMPOSER_UNROLL
        for (int odd = 0; odd < 2; ++odd) {
          const F w = held.At(2 * pair + odd, half);
          XCOMPOSER_UNROLL
          for (int t = 0; t < kRows; ++t) {
            const int step = (pair * kHalves + half) * kRows + t;
            sums[t] = S::Fma(w, S::Load(x + (2 * step + odd) * S::kWidth), sums[t]);
          }
        }
      }
    }
  }

  /// The same of all four rows where some numbers are outliers.
  static __attribute__((noinline)) void AddPatched(const uint32_t* words, int64_t k, const float* x,
                                                   Bf12Outliers& outliers,
                                                   F (&sums)[kBf12Rows][kRows]) {
    alignas(64) float numbers[kBf12Rows][kBf12Block];
    for (int r = 0; r < kBf12Rows; ++r) {
      for (int half = 0; half < kHalves; ++half) {
        const Bf12Lanes<S> lanes(words + r * kBf12Words + half * S::kWidth);
        XCOMPOSER_UNROLL
        for (int field = 0; field < kFields; ++field) {
          S::Store(numbers[r] + field * kLanes + half * S::kWidth,
                   S::PackedNumbers(lanes.Field(field)));
        }
      }
    }
    while (outliers.Any(k + kBf12Block)) {
      int64_t row;
      int64_t input;
      float value;
      outliers.Take(row, input, value);
      const int64_t i = input - k;
      numbers[row][(i / 32 * 2 + i % 2) * kLanes + i % 32 / 2] = value;
    }
    for (int r = 0; r < kBf12Rows; ++r) Add(Floats(numbers[r]), x, sums[r]);
  }

  const LinearKernelArgs& args_;
};

/// Rows [n, n + rows) and inputs [k, k + depth) of the weight, whole panels and blocks, as bfloat16
/// in rows `stride` numbers apart.
template <typename S>
inline void UnpackBf12Piece(const LinearKernelArgs& args, int64_t n, int64_t rows, int64_t k,
                            int64_t depth, uint16_t* out, int64_t stride) {
  constexpr int64_t kLanes = 16;
  const int64_t blocks = args.depth / kBf12Block;
  const auto* scales = static_cast<const float*>(args.scales);
  for (int64_t end = n + rows; n < end; n += kBf12Rows) {
    const int64_t panel = n / kBf12Rows;
    const auto* words = static_cast<const uint32_t*>(args.weight) +
                        (panel * blocks + k / kBf12Block) * kBf12BlockWords;
    // Least exponents, in their place in a float32. Of a scale, 2^(e - 112), it is e + 15.
    constexpr uint32_t kAbove = 15u << 23;
    uint32_t least[kBf12Rows];
    std::memcpy(least, scales + n, sizeof(least));
    for (int64_t i = 0; i < depth; i += kBf12Block) {
      for (int64_t r = 0; r < kBf12Rows; ++r) {
        const typename S::W exponent = S::SetWords(least[r] - kAbove);
        for (int64_t lane = 0; lane < kLanes; lane += S::kWidth) {
          const Bf12Lanes<S> lanes(words + lane);
          XCOMPOSER_UNROLL
          for (int pair = 0; pair < 4; ++pair) {
            const auto even = S::AddWords(S::PackedFields(lanes.Field(2 * pair)), exponent);
            const auto odd = S::AddWords(S::PackedFields(lanes.Field(2 * pair + 1)), exponent);
            S::StoreWords(reinterpret_cast<uint32_t*>(out + r * stride + i + 32 * pair + 2 * lane),
                          S::UpperHalves(even, odd));
          }
        }
        words += kBf12Words;
      }
    }
    Bf12Outliers outliers(args, panel);
    outliers.SkipTo(k);
    while (outliers.Any(k + depth)) {
      int64_t row;
      int64_t input;
      float value;
      outliers.Take(row, input, value);
      value *= scales[n + row];
      uint32_t bits;
      std::memcpy(&bits, &value, sizeof(bits));
      out[row * stride + input - k] = static_cast<uint16_t>(bits >> 16);
    }
    out += kBf12Rows * stride;
  }
}

template <typename S, int kRows>
inline void Bf12LongRuns(const LinearKernelArgs& args, int64_t n, int64_t n_end) {
  if constexpr (kRows > 1) {
    if (args.rows < kRows) return Bf12LongRuns<S, kRows - 1>(args, n, n_end);
  }
  const Bf12Dots<S, kRows> dots(args);
  for (; n < n_end; n += kBf12Rows) dots.Run(n);
}

/// Outputs [n_begin, n_end), whole panels, with up to kMostRows rows of x, packed before as for
/// bfloat16. args.scratch holds kStripe rows of the weight.
template <typename S>
void LinearBf12Rows(const LinearKernelArgs& args, int64_t n_begin, int64_t n_end) {
  if constexpr (kMostBf12Rows < S >> 0) {
    if (args.rows <= kMostBf12Rows<S>) {
      return Bf12LongRuns<S, kMostBf12Rows<S>>(args, n_begin, n_end);
    }
  }
  auto* unpacked = reinterpret_cast<uint16_t*>(args.scratch);
  for (int64_t n = n_begin; n < n_end; n += kStripe) {
    LinearKernelArgs stripe = args;
    stripe.outputs = n_end - n < kStripe ? n_end - n : kStripe;
    UnpackBf12Piece<S>(args, n, stripe.outputs, 0, args.depth, unpacked, args.depth);
    stripe.weight = unpacked;
    stripe.weight_stride = args.depth;
    if (args.bias != nullptr) stripe.bias = args.bias + n;
    stripe.y = args.y + n;
    LinearRows<S, Format::kBfloat16>(stripe, 0, stripe.outputs);
  }
}

/// A weight in 12 bits for LinearPanels, by way of `Dense`, which reads bfloat16 in rows of
/// numbers or, where kPair is 2, of pairs.
template <typename S, typename Dense, int64_t kPair>
struct Bf12Weight {
  static constexpr bool kScalesSums = false;

  static int64_t End(const LinearKernelArgs& args, int64_t k) { return EndOfPiece(args, k); }

  static LinesAhead Ahead(const LinearKernelArgs& args, int64_t n, int64_t columns, int64_t k,
                          int64_t depth) {
    const Blocks blocks(k, depth);
    constexpr int64_t kBytes = kBf12BlockWords * int64_t{sizeof(uint32_t)};
    const int64_t stride = kPair * args.depth / kBf12Block * kBytes;
    return {.row = static_cast<const char*>(args.weight) + n / kBf12Rows * stride +
                   blocks.begin / kBf12Block * kBytes,
            .stride = stride,
            .rows = columns / kBf12Rows,
            .bytes = (blocks.end - blocks.begin) / kBf12Block * kBytes};
  }

  static void Pack(const LinearKernelArgs& args, int64_t n, int64_t columns, int64_t k,
                   int64_t depth, PanelPlace place) {
    const Blocks blocks(k, depth);
    alignas(64) uint16_t numbers[kPanelColumns<S> * kMost];
    LinearKernelArgs whole = args;
    whole.depth *= kPair;
    UnpackBf12Piece<S>(whole, n, columns, blocks.begin, blocks.end - blocks.begin, numbers, kMost);
    LinearKernelArgs piece = args;
    piece.weight = numbers;
    piece.weight_stride = kMost / kPair;
    piece.outputs = columns;
    Dense::Pack(piece, 0, columns, k - blocks.begin / kPair, depth, place);
  }

 private:
  /// Inputs of a piece in whole blocks; pieces that begin within one are of kDepth.
  static constexpr int64_t kMost = (kPair * kDepth + kBf12Block - 1) / kBf12Block * kBf12Block;
  static_assert(kPair * kDepth % (kBf12Block / 2) == 0);  // else there may be one block more

  /// The blocks in which the inputs of a piece lie.
  struct Blocks {
    Blocks(int64_t k, int64_t depth)
        : begin(kPair * k / kBf12Block * kBf12Block),
          end((kPair * (k + depth) + kBf12Block - 1) / kBf12Block * kBf12Block) {}
    int64_t begin;
    int64_t end;
  };
};

}  // namespace xcomposer::cpu
