#pragma once

#include "kernels/cpu/bf12_matrix.h"
#include "kernels/cpu/kernel_args.h"
#include "kernels/cpu/linear_panels.h"
#include "kernels/cpu/linear_rows.h"
#include "kernels/cpu/linear_stream.h"
#include "kernels/cpu/simd.h"

namespace xcomposer::cpu {

// Weights in 12 bits (bf12_matrix.h). Up to kMostRows rows of x meet the numbers as they come out
// of their words, in the order in which linear_rows.h takes those of a bfloat16 matrix, and a row's
// scale is a power of two: sums have the same bits. For more rows of x, pieces of the weight become
// bfloat16 again, in the cache, and go through the kernels for that.

/// Most rows of x whose sums, of four outputs each, fit into registers.
template <typename S>
inline constexpr int kBf12HeldRows = S::kWidth == 16 ? 6 : 3;

/// Words of a block of four rows.
inline constexpr int64_t kBf12BlockWords = kBf12Rows * kBf12Words;
/// Words of a line, and numbers that each of them has a share of.
inline constexpr int kBf12Lanes = 16;
inline constexpr int kBf12Fields = 8;
/// Vectors in a line.
template <typename S>
inline constexpr int kBf12Parts = kBf12Lanes / static_cast<int>(S::kWidth);

/// The eight numbers of some lanes of one row's block.
template <typename S>
class Bf12Lanes {
 public:
  using W = typename S::W;

  explicit XCOMPOSER_INLINE Bf12Lanes(const uint32_t* words)
      : first_(S::LoadWords(words)),
        second_(S::LoadWords(words + kBf12Lanes)),
        third_(S::LoadWords(words + 2 * kBf12Lanes)) {}

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

/// Asks for the block of four rows at `words`: part `i` of kBf12Fields. In turns with products,
/// lines come faster than all at once.
template <typename S>
XCOMPOSER_INLINE void AskForBf12Block(const uint32_t* words, int i) {
  constexpr int kLines = static_cast<int>(kBf12BlockWords) / kBf12Lanes;
  for (int line = kLines * i / kBf12Fields; line < kLines * (i + 1) / kBf12Fields; ++line) {
    S::Prefetch(words + kBf12Lanes * line);
  }
}

/// Packs blocks [begin, end) of x as (block, row, step, input), a step being two vectors in the
/// order of S::StorePairs.
template <typename S>
void PackBf12X(const LinearKernelArgs& args, int64_t begin, int64_t end) {
  float* out = args.packed_x + begin * kBf12Block * args.rows;
  for (int64_t k = begin * kBf12Block; k < end * kBf12Block; k += kBf12Block) {
    for (int64_t row = 0; row < args.rows; ++row) {
      const float* x = args.x + row * args.x_stride + k;
      for (int64_t i = 0; i < kBf12Block; i += 2 * S::kWidth) {
        S::template StorePairs<Format::kBfloat16>(x + i, out + i);
      }
      out += kBf12Block;
    }
  }
}

/// Words between what is worked on and what is asked for, where rows follow one another.
inline constexpr int64_t kBf12Ahead = kStreamAhead / int64_t{sizeof(uint32_t)};

/// Where the panel of output n begins.
XCOMPOSER_INLINE const uint32_t* Bf12PanelWords(const LinearKernelArgs& args, int64_t n) {
  return static_cast<const uint32_t*>(args.weight) +
         n / kBf12Rows * (args.depth / kBf12Block) * kBf12BlockWords;
}

/// Numbers of one row's block as they lie in words.
template <typename S>
class Bf12Words {
 public:
  explicit XCOMPOSER_INLINE Bf12Words(const uint32_t* words) : words_(words) {}
  XCOMPOSER_INLINE typename S::F At(int field, int part) const {
    return S::PackedNumbers(Bf12Lanes<S>(words_ + part * S::kWidth).Field(field));
  }

 private:
  const uint32_t* words_;
};

/// The same as floats, (field, lane).
template <typename S>
class Bf12Floats {
 public:
  explicit XCOMPOSER_INLINE Bf12Floats(const float* numbers) : numbers_(numbers) {}
  /// Kept: GCC would read it again for each row of x where there are three; with that, seven rows
  /// took half as long again (Zen 5, AVX-512).
  XCOMPOSER_INLINE typename S::F At(int field, int part) const {
    return S::Keep(S::Load(numbers_ + field * kBf12Lanes + part * S::kWidth));
  }

 private:
  const float* numbers_;
};

/// The numbers of four rows' block, (row, field, lane), outliers among them.
template <typename S>
inline void PatchBf12Block(const uint32_t* words, int64_t k, Bf12Outliers& outliers,
                           float (&numbers)[kBf12Rows][kBf12Block]) {
  for (int r = 0; r < kBf12Rows; ++r) {
    const Bf12Words<S> row(words + r * kBf12Words);
    for (int part = 0; part < kBf12Parts<S>; ++part) {
      XCOMPOSER_UNROLL
      for (int field = 0; field < kBf12Fields; ++field) {
        S::Store(numbers[r] + field * kBf12Lanes + part * S::kWidth, row.At(field, part));
      }
    }
  }
  while (outliers.Any(k + kBf12Block)) {
    int64_t row;
    int64_t input;
    float value;
    outliers.Take(row, input, value);
    const int64_t i = input - k;
    numbers[row][(i / 32 * 2 + i % 2) * kBf12Lanes + i % 32 / 2] = value;
  }
}

/// Vector of a packed row of x that meets a field.
template <typename S>
constexpr int Bf12Column(int field, int part) {
  return (field / 2 * kBf12Parts<S> + part) * 2 + field % 2;
}

/// Sums of four outputs, and kRows rows of x.
template <typename S, int kRows>
struct Bf12Sums {
  typename S::F of[kBf12Rows][kRows];

  XCOMPOSER_INLINE Bf12Sums() {
    XCOMPOSER_UNROLL
    for (int r = 0; r < kBf12Rows; ++r) {
      XCOMPOSER_UNROLL
      for (int t = 0; t < kRows; ++t) of[r][t] = S::Zero();
    }
  }

  /// Adds the products of a block, whose Numbers lie `stride` apart from row to row: even inputs
  /// before odd ones, as of bfloat16. A field of each row after the other, since sums of one row
  /// wait for each other; and a vector of x is loaded once for all four. The block at `ahead` is
  /// asked for meanwhile.
  template <typename Numbers, typename T>
  XCOMPOSER_INLINE void Add(const T* numbers, int64_t stride, const float* x,
                            const uint32_t* ahead = nullptr) {
    XCOMPOSER_UNROLL
    for (int pair = 0; pair < kBf12Fields; pair += 2) {
      XCOMPOSER_UNROLL
      for (int part = 0; part < kBf12Parts<S>; ++part) {
        XCOMPOSER_UNROLL
        for (int field = pair; field < pair + 2; ++field) {
          if (part == 0 && ahead != nullptr) AskForBf12Block<S>(ahead, field);
          const float* place = x + Bf12Column<S>(field, part) * S::kWidth;
          typename S::F column[kRows];
          XCOMPOSER_UNROLL
          for (int t = 0; t < kRows; ++t) column[t] = S::Keep(S::Load(place + t * kBf12Block));
          XCOMPOSER_UNROLL
          for (int r = 0; r < kBf12Rows; ++r) {
            const typename S::F w = Numbers(numbers + r * stride).At(field, part);
            XCOMPOSER_UNROLL
            for (int t = 0; t < kRows; ++t) of[r][t] = S::Fma(w, column[t], of[r][t]);
          }
        }
      }
    }
  }

  /// y of outputs [n, n + 4) and `rows` <= kRows rows from `row` on.
  XCOMPOSER_INLINE void Finish(const LinearKernelArgs& args, int64_t n, int64_t row,
                               int64_t rows) const {
    const auto* scales = static_cast<const float*>(args.scales) + n;
    XCOMPOSER_UNROLL
    for (int r = 0; r < kBf12Rows; ++r) {
      XCOMPOSER_UNROLL
      for (int t = 0; t < kRows; ++t) {
        if (t == rows) break;
        FinishSum(args, row + t, n + r, S::Sum(of[r][t]) * scales[r]);
      }
    }
  }
};

/// A block with outliers. Not inline, with sums of its own: else all numbers of every block wait in
/// memory, and the sums too.
template <typename S, int kRows>
__attribute__((noinline)) void AddPatchedBf12(const uint32_t* words, int64_t k,
                                              Bf12Outliers& outliers, const float* x,
                                              Bf12Sums<S, kRows>& sums) {
  alignas(64) float numbers[kBf12Rows][kBf12Block];
  PatchBf12Block<S>(words, k, outliers, numbers);
  sums.template Add<Bf12Floats<S>>(numbers[0], kBf12Block, x, words + kBf12Ahead);
}

/// All kRows rows of x with outputs [n, n + kBf12Rows), sums in registers.
template <typename S, int kRows>
inline void Bf12HeldDots(const LinearKernelArgs& args, int64_t n) {
  const uint32_t* words = Bf12PanelWords(args, n);
  const float* x = args.packed_x;
  Bf12Outliers outliers(args, n / kBf12Rows);
  Bf12Sums<S, kRows> sums;
  for (int64_t k = 0; k < args.depth; k += kBf12Block) {
    if (outliers.Any(k + kBf12Block)) {
      Bf12Sums<S, kRows> patched = sums;
      AddPatchedBf12<S, kRows>(words, k, outliers, x, patched);
      sums = patched;
    } else {
      sums.template Add<Bf12Words<S>>(words, kBf12Words, x, words + kBf12Ahead);
    }
    words += kBf12BlockWords;
    x += kBf12Block * kRows;
  }
  sums.Finish(args, n, 0, kRows);
}

/// More rows of x, in groups of equal size, with up to kStripe outputs, whose sums are kept while
/// all inputs are read, piece by piece (as in linear_rows.h). A block's numbers are taken out of
/// their words once for all groups.
template <typename S>
class Bf12Stripe {
 public:
  /// Outputs [n, n + outputs).
  Bf12Stripe(const LinearKernelArgs& args, int64_t n, int64_t outputs)
      : args_(args),
        n_(n),
        panels_(outputs / kBf12Rows),
        groups_((args.rows + kGroup - 1) / kGroup) {}

  void Run() {
    for (int64_t panel = 0; panel < panels_; ++panel) {
      for (int64_t group = 0; group < groups_; ++group) sums_[panel][group] = Sums();
    }
    for (int64_t k = 0; k < args_.depth; k += kPiece) {
      for (int64_t panel = 0; panel < panels_; ++panel) AddPiece(panel, k);
    }
    for (int64_t panel = 0; panel < panels_; ++panel) {
      for (int64_t group = 0; group < groups_; ++group) {
        const int64_t row = FirstRow(group);
        sums_[panel][group].Finish(args_, n_ + panel * kBf12Rows, row, FirstRow(group + 1) - row);
      }
    }
  }

 private:
  static constexpr int kGroup = kBf12HeldRows<S>;
  static constexpr int64_t kPanels = kStripe / kBf12Rows;
  /// Inputs: those of all rows of x stay in the second cache, and lines of the weight that are
  /// asked for a piece ahead too.
  static constexpr int64_t kPiece = 4 * kBf12Block;
  using Sums = Bf12Sums<S, kGroup>;

  int64_t FirstRow(int64_t group) const { return args_.rows * group / groups_; }

  /// Inputs from k on, of four outputs.
  void AddPiece(int64_t panel, int64_t k) {
    const int64_t end = args_.depth - k < kPiece ? args_.depth : k + kPiece;
    const int64_t n = n_ + panel * kBf12Rows;
    const uint32_t* words = Bf12PanelWords(args_, n) + k / kBf12Block * kBf12BlockWords;
    // After the last piece, what comes next is the beginning of the next stripe.
    const uint32_t* ahead = end < args_.depth ? words + kPiece / kBf12Block * kBf12BlockWords
                                              : Bf12PanelWords(args_, n + kStripe);
    Bf12Outliers outliers(args_, n / kBf12Rows);
    outliers.SkipTo(k);
    const int64_t blocks = (end - k) / kBf12Block;
    for (int64_t b = 0; b < blocks; ++b) {
      XCOMPOSER_UNROLL
      for (int i = 0; i < kBf12Fields; ++i) AskForBf12Block<S>(ahead, i);
      PatchBf12Block<S>(words, k + b * kBf12Block, outliers, numbers_[b]);
      words += kBf12BlockWords;
      ahead += kBf12BlockWords;
    }
    for (int64_t group = 0; group < groups_; ++group) {
      const int64_t row = FirstRow(group);
      const float* x = args_.packed_x + k * args_.rows + row * kBf12Block;
      AddGroup<kGroup>(FirstRow(group + 1) - row, x, blocks, sums_[panel][group]);
    }
  }

  template <int kRows>
  XCOMPOSER_INLINE void AddGroup(int64_t rows, const float* x, int64_t blocks, Sums& sums) const {
    if constexpr (kRows > 1) {
      if (rows < kRows) return AddGroup<kRows - 1>(rows, x, blocks, sums);
    }
    Bf12Sums<S, kRows> held;
    XCOMPOSER_UNROLL
    for (int r = 0; r < kBf12Rows; ++r) {
      XCOMPOSER_UNROLL
      for (int t = 0; t < kRows; ++t) held.of[r][t] = sums.of[r][t];
    }
    for (int64_t b = 0; b < blocks; ++b) {
      held.template Add<Bf12Floats<S>>(numbers_[b][0], kBf12Block, x);
      x += kBf12Block * args_.rows;
    }
    XCOMPOSER_UNROLL
    for (int r = 0; r < kBf12Rows; ++r) {
      XCOMPOSER_UNROLL
      for (int t = 0; t < kRows; ++t) sums.of[r][t] = held.of[r][t];
    }
  }

  const LinearKernelArgs& args_;
  int64_t n_;
  int64_t panels_;
  int64_t groups_;
  alignas(64) float numbers_[kPiece / kBf12Block][kBf12Rows][kBf12Block];
  Sums sums_[kPanels][(kMostRows + kGroup - 1) / kGroup];
};

/// Rows [n, n + rows) and inputs [k, k + depth) of the weight, whole panels and blocks, as bfloat16
/// in rows `stride` numbers apart.
template <typename S>
inline void UnpackBf12Piece(const LinearKernelArgs& args, int64_t n, int64_t rows, int64_t k,
                            int64_t depth, uint16_t* out, int64_t stride) {
  const auto* scales = static_cast<const float*>(args.scales);
  for (int64_t end = n + rows; n < end; n += kBf12Rows) {
    const uint32_t* words = Bf12PanelWords(args, n) + k / kBf12Block * kBf12BlockWords;
    uint32_t bits[kBf12Rows];
    std::memcpy(bits, scales + n, sizeof(bits));
    for (int64_t i = 0; i < depth; i += kBf12Block) {
      for (int64_t r = 0; r < kBf12Rows; ++r) {
        // Twice, in its place in a bfloat16. Of a scale, 2^(e - 112), it is e + 15.
        const uint32_t least = (bits[r] >> 16) - (15u << 7);
        const typename S::W exponent = S::SetWords(least << 16 | least);
        for (int64_t lane = 0; lane < kBf12Lanes; lane += S::kWidth) {
          const Bf12Lanes<S> lanes(words + lane);
          XCOMPOSER_UNROLL
          for (int pair = 0; pair < kBf12Fields / 2; ++pair) {
            // Nothing is carried from one half of a word to the other.
            const auto fields = S::PackedPair(lanes.Field(2 * pair), lanes.Field(2 * pair + 1));
            S::StoreWords(reinterpret_cast<uint32_t*>(out + r * stride + i + 32 * pair + 2 * lane),
                          S::AddWords(fields, exponent));
          }
        }
        words += kBf12Words;
      }
    }
    Bf12Outliers outliers(args, n / kBf12Rows);
    outliers.SkipTo(k);
    while (outliers.Any(k + depth)) {
      int64_t row;
      int64_t input;
      float value;
      outliers.Take(row, input, value);
      value *= scales[n + row];
      uint32_t number;
      std::memcpy(&number, &value, sizeof(number));
      out[row * stride + input - k] = static_cast<uint16_t>(number >> 16);
    }
    out += kBf12Rows * stride;
  }
}

template <typename S, int kRows>
inline void Bf12HeldRuns(const LinearKernelArgs& args, int64_t n, int64_t n_end) {
  if constexpr (kRows > 1) {
    if (args.rows < kRows) return Bf12HeldRuns<S, kRows - 1>(args, n, n_end);
  }
  for (; n < n_end; n += kBf12Rows) Bf12HeldDots<S, kRows>(args, n);
}

/// Outputs [n_begin, n_end), whole panels, with up to kMostRows rows of x, packed before.
template <typename S>
void LinearBf12Rows(const LinearKernelArgs& args, int64_t n_begin, int64_t n_end) {
  if (args.rows <= kBf12HeldRows<S>) {
    return Bf12HeldRuns<S, kBf12HeldRows<S>>(args, n_begin, n_end);
  }
  for (int64_t n = n_begin; n < n_end; n += kStripe) {
    Bf12Stripe<S>(args, n, n_end - n < kStripe ? n_end - n : kStripe).Run();
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
