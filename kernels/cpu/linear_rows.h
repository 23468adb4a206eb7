#pragma once

#include "kernels/cpu/kernel_args.h"
#include "kernels/cpu/linear_stream.h"
#include "kernels/cpu/simd.h"

namespace xcomposer::cpu {

// Few rows of x (decoding): every row of the weight is read from memory once, several rows at a
// time as independent streams, and multiplied with all rows of x while it is in the cache. A sum is
// taken over S::kWidth interleaved partial sums in ascending order of k and does not depend on
// which rows of x or of the weight happen to share the loop.

/// Up to so many rows of x, long runs of a few rows of the weight are read ...
template <typename S>
inline constexpr int kDotRows = S::kWidth < 16 ? 4 : 2;
/// ... or so many, where several streams are fetched faster than one. Measured (Cascade Lake):
/// three to six rows take 5 to 19 % less time than in stripes, seven and eight about as long.
template <typename S>
inline constexpr int kMostDotRows = S::kWidth < 16 ? kDotRows<S> : 8;
/// Most rows of x that LinearRows takes.
inline constexpr int64_t kMostRows = 28;
/// Outputs whose sums are kept while all of K is read, piece by piece, for more rows. Each reads x
/// from the second cache once, which else takes as long as the weight.
inline constexpr int64_t kStripe = 24;
/// Far enough ahead that the line has arrived, near enough that it is still there.
inline constexpr int64_t kPrefetchBytes = 1024;

/// Pieces between that of the weight that is worked on and the one that is fetched for later.
/// Measured with AVX2 (Cascade Lake): with two, 5 to 8 rows of 14,336 inputs take 1 to 3 % less
/// time than with one; others are alike.
template <typename S>
inline constexpr int64_t kPiecesAhead = S::kWidth < 16 ? 2 : 1;

/// Rows of x in a tile of sums, at most.
template <typename S>
inline constexpr int kGroupRows = S::kWidth == 16 ? 8 : 6;

/// Outputs in a tile of so many rows: as many sums as registers hold.
template <typename S>
constexpr int TileOutputs(int rows) {
  return S::kWidth == 16 || rows <= 4 ? 3 : 2;
}

/// Groups of rows of equal size, so that the last one is not a crumb.
template <typename S>
XCOMPOSER_INLINE int64_t GroupsOf(int64_t rows) {
  return (rows + kGroupRows<S> - 1) / kGroupRows<S>;
}

/// Inputs of a piece: so many that those of a group of rows stay in the first cache beside the
/// sums. Long pieces bring the sums to the registers less often.
template <typename S>
int64_t RowPiece(int64_t rows) {
  if (S::kWidth < 16) return 512;
  const int64_t groups = GroupsOf<S>(rows);
  return (rows + groups - 1) / groups <= 6 ? 1024 : 512;
}

/// Packs the pieces [begin, end) of x as (piece, group of rows, step, row, input), a step being two
/// vectors of inputs in the order of S::LoadFirst and S::LoadSecond: a tile reads x from one place
/// on. What is left of the last step is filled with zeros.
template <typename S, Format format>
void LinearPackPieces(const LinearKernelArgs& args, int64_t begin, int64_t end) {
  constexpr int64_t kStep = 2 * S::kWidth;
  const int64_t groups = GroupsOf<S>(args.rows);
  const int64_t piece = RowPiece<S>(args.rows);
  for (int64_t k = begin * piece; k < args.depth && k < end * piece; k += piece) {
    const int64_t depth = args.depth - k < piece ? args.depth - k : piece;
    float* out = args.packed_x + k * args.rows;
    for (int64_t group = 0; group < groups; ++group) {
      const int64_t row_end = args.rows * (group + 1) / groups;
      for (int64_t i = 0; i < depth; i += kStep) {
        for (int64_t row = args.rows * group / groups; row < row_end; ++row) {
          const float* x = args.x + row * args.x_stride + k + i;
          if (depth - i >= kStep) {
            S::template StorePairs<format>(x, out);
          } else {
            float rest[kStep] = {};
            std::memcpy(rest, x, static_cast<size_t>(depth - i) * sizeof(float));
            S::template StorePairs<format>(rest, out);
          }
          out += kStep;
        }
      }
    }
  }
}

/// Numbers in a line of memory.
template <Format format>
inline constexpr int64_t kLine = 64 / SizeOf(format);

/// Inputs that are fetched at a time.
template <typename S, Format format>
inline constexpr int64_t kFetched = kLine<format> > 2 * S::kWidth ? kLine<format> : 2 * S::kWidth;

/// What is fetched of each row of the weight while it is worked on.
template <typename Element>
struct Fetched {
  const Element* first;
  int64_t row_stride;  ///< from what is fetched for a row to what is for the next
  int64_t step;        ///< from what is fetched at a time to what is the next time
};

/// One piece of some rows of the weight, and of some rows of x.
template <typename S, Format format>
struct Piece {
  using Element = typename ElementOf<format>::Type;

  const Element* weight;
  int64_t weight_stride;
  Fetched<Element> ahead;
  int64_t every;   ///< inputs that are worked on for each line that is fetched
  const float* x;  ///< packed
  int64_t depth;   ///< inputs, in whole pairs of vectors ...
  int64_t rest;    ///< ... and what is left after them
  // Weights that do not begin with a line are joined of two (see linear_stream.h), where both lines
  // are the row's own.
  int64_t shift = 0;       ///< bytes from the line to the weights, in each row
  int64_t join_begin = 0;  ///< first input that is read so
  int64_t join_end = 0;

  /// Sets the last three. The piece begins `before` inputs after its row does and `left` inputs
  /// before that ends.
  void JoinLines(int64_t before, int64_t left) {
    if constexpr (kReadsLines<S, format>) {
      constexpr int64_t kStep = 2 * S::kWidth;
      shift = static_cast<int64_t>(reinterpret_cast<uintptr_t>(weight) % 64);
      if (shift == 0 || shift % 4 != 0 || weight_stride % kStep != 0) return;
      join_begin = before > 0 ? 0 : depth < kStep ? depth : kStep;
      // The second line of a step ends `2 * kStep - shift / 2` inputs after the step's beginning.
      const int64_t end = left - kStep + shift / 2;
      join_end = end < depth ? end - end % kStep : depth;
      if (join_end < join_begin) join_end = join_begin;
    }
  }
};

/// Products of one step of inputs added to the tile. `read(o, half)` gives a vector of weights.
template <typename S, int kOutputs, int kRows, typename Read>
XCOMPOSER_INLINE void AddStep(const float* x, const Read& read,
                              typename S::F (&tile)[kOutputs][kRows]) {
  using F = typename S::F;
  XCOMPOSER_UNROLL
  for (int half = 0; half < 2; ++half) {
    F w[kOutputs];
    XCOMPOSER_UNROLL
    for (int o = 0; o < kOutputs; ++o) w[o] = read(o, half);
    XCOMPOSER_UNROLL
    for (int t = 0; t < kRows; ++t) {
      const F column = S::Keep(S::Load(x + (2 * t + half) * S::kWidth));
      XCOMPOSER_UNROLL
      for (int o = 0; o < kOutputs; ++o) tile[o][t] = S::Fma(w[o], column, tile[o][t]);
    }
  }
}

/// Adds the products of one piece to a tile of sums.
template <typename S, Format format, int kOutputs, int kRows>
class PieceSteps {
 public:
  using F = typename S::F;

  XCOMPOSER_INLINE PieceSteps(const Piece<S, format>& piece, F (&tile)[kOutputs][kRows])
      : piece_(piece), tile_(tile), ahead_(piece.ahead.first) {}

  XCOMPOSER_INLINE void Run() {
    AsTheyLie(0, piece_.join_begin);
    if constexpr (kReadsLines<S, format>) Joined(piece_.join_begin, piece_.join_end);
    AsTheyLie(piece_.join_end, piece_.depth);
    Rest();
  }

 private:
  using Element = typename ElementOf<format>::Type;
  static constexpr int64_t kStep = 2 * S::kWidth;
  /// Whether there are registers for the joined lines of a step beside the sums; else they are
  /// joined again for the second half of their numbers.
  static constexpr bool kHoldsLines = kOutputs * (kRows + 2) <= 28;

  XCOMPOSER_INLINE void Fetch(int64_t k) {
    if (k != due_) return;
    XCOMPOSER_UNROLL
    for (int o = 0; o < kOutputs; ++o) {
      for (int64_t line = 0; line < kFetched<S, format>; line += kLine<format>) {
        S::Prefetch(ahead_ + o * piece_.ahead.row_stride + line);
      }
    }
    ahead_ += piece_.ahead.step;
    due_ += piece_.every;
  }

  XCOMPOSER_INLINE void Add(const Element* weight, int64_t stride, int64_t k) {
    const auto read = [&](int o, int half) __attribute__((always_inline)) {
      const Element* place = weight + o * stride;
      return half == 0 ? S::template LoadFirst<format>(place)
                       : S::template LoadSecond<format>(place);
    };
    AddStep<S>(piece_.x + k * kRows, read, tile_);
  }

  XCOMPOSER_INLINE void AsTheyLie(int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; k += kStep) {
      Fetch(k);
      Add(piece_.weight + k, piece_.weight_stride, k);
    }
  }

  XCOMPOSER_INLINE void Joined(int64_t begin, int64_t end) {
    using W = typename S::W;
    const W places = S::JoinPlaces(piece_.shift);
    const char* line = reinterpret_cast<const char*>(piece_.weight + begin) - piece_.shift;
    const int64_t stride = piece_.weight_stride * SizeOf(format);
    for (int64_t k = begin; k < end; k += kStep, line += 64) {
      Fetch(k);
      W joined[kOutputs];
      const auto join = [&](const char* lines) __attribute__((always_inline)) {
        XCOMPOSER_UNROLL
        for (int o = 0; o < kOutputs; ++o) {
          const char* at = lines + o * stride;
          joined[o] = S::JoinLines(S::LoadLine(at), places, S::LoadLine(at + 64));
        }
      };
      join(line);
      const auto read = [&](int o, int half) __attribute__((always_inline)) {
        if (!kHoldsLines && half == 1 && o == 0) join(Unknown<S>(line));
        return half == 0 ? S::template First<format>(joined[o])
                         : S::template Second<format>(joined[o]);
      };
      AddStep<S>(piece_.x + k * kRows, read, tile_);
    }
  }

  XCOMPOSER_INLINE void Rest() {
    if (piece_.rest == 0) return;
    Element copy[kOutputs * kStep] = {};
    for (int o = 0; o < kOutputs; ++o) {
      std::memcpy(copy + o * kStep, piece_.weight + o * piece_.weight_stride + piece_.depth,
                  static_cast<size_t>(piece_.rest) * sizeof(Element));
    }
    Add(copy, kStep, piece_.depth);
  }

  const Piece<S, format>& piece_;
  F (&tile_)[kOutputs][kRows];
  const Element* ahead_;
  int64_t due_ = 0;
};

/// Whether a few rows of the weight, though worked on side by side, are asked for as they lie in
/// memory, one after the other: where one long stream is fetched faster than several, and rows
/// follow one another.
XCOMPOSER_INLINE bool AsksInOrder(const LinearKernelArgs& args) {
  return args.one_stream_x > 0 && args.weight_stride == args.depth;
}

/// The inputs from `k` to `end` of kOutputs rows of the weight, in whole steps and a rest.
template <typename S, Format format, int kOutputs, int kRows>
XCOMPOSER_INLINE void AddInputs(const LinearKernelArgs& args, int64_t n, int64_t k, int64_t end,
                                const Fetched<typename ElementOf<format>::Type>& ahead,
                                typename S::F (&tile)[kOutputs][kRows]) {
  using Element = typename ElementOf<format>::Type;
  constexpr int64_t kStep = 2 * S::kWidth;
  const Element* weight = static_cast<const Element*>(args.weight) + n * args.weight_stride;
  Piece<S, format> piece{.weight = weight + k,
                         .weight_stride = args.weight_stride,
                         .ahead = ahead,
                         .every = kFetched<S, format>,
                         .x = args.packed_x + k * kRows,
                         .depth = (end - k) / kStep * kStep,
                         .rest = (end - k) % kStep};
  piece.JoinLines(k, args.depth - k);
  PieceSteps<S, format, kOutputs, kRows>(piece, tile).Run();
}

/// kOutputs rows of the weight with all kRows rows of x there are.
template <typename S, Format format, int kOutputs, int kRows, bool kInOrder>
inline void DotRows(const LinearKernelArgs& args, int64_t n) {
  using F = typename S::F;
  using Element = typename ElementOf<format>::Type;
  constexpr int64_t kStep = 2 * S::kWidth;
  constexpr int64_t kAhead = kPrefetchBytes / SizeOf(format);
  const Element* weight = static_cast<const Element*>(args.weight) + n * args.weight_stride;
  F tile[kOutputs][kRows];
  XCOMPOSER_UNROLL
  for (int o = 0; o < kOutputs; ++o) {
    XCOMPOSER_UNROLL
    for (int t = 0; t < kRows; ++t) tile[o][t] = S::Zero();
  }
  if constexpr (kInOrder) {
    const int64_t numbers = kOutputs * args.depth;
    const int64_t turns = (kStreamAhead / SizeOf(format) + numbers - 1) / numbers;
    AddInputs<S, format>(args, n, 0, args.depth,
                         {.first = weight + turns * numbers,
                          .row_stride = kFetched<S, format>,
                          .step = kOutputs * kFetched<S, format>},
                         tile);
  } else {
    // From here on, what comes next is the beginning of the next rows of the loop.
    const int64_t turn = (args.depth - kAhead) / kStep * kStep;
    for (int64_t k = 0; k < args.depth;) {
      const int64_t end = k < turn ? turn : args.depth;
      const int64_t ahead =
          k < turn ? k + kAhead : k + kAhead - args.depth + kOutputs * args.weight_stride;
      AddInputs<S, format>(
          args, n, k, end,
          {.first = weight + ahead, .row_stride = args.weight_stride, .step = kFetched<S, format>},
          tile);
      k = end;
    }
  }
  XCOMPOSER_UNROLL
  for (int o = 0; o < kOutputs; ++o) {
    XCOMPOSER_UNROLL
    for (int t = 0; t < kRows; ++t) FinishSum(args, t, n + o, S::Sum(tile[o][t]));
  }
}

template <typename S, Format format, int kOutputs, int kRows>
inline void PieceTile(const Piece<S, format>& piece, typename S::F* sums, int64_t sums_stride) {
  typename S::F tile[kOutputs][kRows];
  XCOMPOSER_UNROLL
  for (int o = 0; o < kOutputs; ++o) {
    XCOMPOSER_UNROLL
    for (int t = 0; t < kRows; ++t) tile[o][t] = sums[o * sums_stride + t];
  }
  PieceSteps<S, format, kOutputs, kRows>(piece, tile).Run();
  XCOMPOSER_UNROLL
  for (int o = 0; o < kOutputs; ++o) {
    XCOMPOSER_UNROLL
    for (int t = 0; t < kRows; ++t) sums[o * sums_stride + t] = tile[o][t];
  }
}

/// More than kDotRows rows of x with `outputs` <= kStripe rows of the weight from n on.
template <typename S, Format format>
class Stripe {
 public:
  Stripe(const LinearKernelArgs& args, int64_t n, int64_t outputs)
      : args_(args),
        weight_(static_cast<const Element*>(args.weight) + n * args.weight_stride),
        n_(n),
        outputs_(outputs),
        row_piece_(RowPiece<S>(args.rows)),
        groups_(GroupsOf<S>(args.rows)),
        pieces_end_((args.depth + row_piece_ - 1) / row_piece_ * row_piece_) {
    const int64_t lines = (row_piece_ + kFetched<S, format> - 1) / kFetched<S, format>;
    const int64_t share = (lines + groups_ - 1) / groups_;
    const int64_t every = row_piece_ / share / kStep * kStep;
    every_ = every > kStep ? every : kStep;
    fetched_ = share * kFetched<S, format>;
    for (int64_t group = 0; group < groups_; ++group) {
      group_rows_[group] = args.rows * (group + 1) / groups_ - args.rows * group / groups_;
    }
  }

  void Run() {
    for (int64_t i = 0; i < outputs_ * args_.rows; ++i) sums_[i] = S::Zero();
    for (int64_t k = 0; k < args_.depth; k += row_piece_) Groups(k);
    Finish();
  }

 private:
  using F = typename S::F;
  using Element = typename ElementOf<format>::Type;
  static constexpr int64_t kStep = 2 * S::kWidth;

  /// The inputs from k on. Every group of rows fetches its share of what comes next, so that memory
  /// is never idle.
  void Groups(int64_t k) {
    const int64_t depth = args_.depth - k < row_piece_ ? args_.depth - k : row_piece_;
    Piece<S, format> piece{
        .weight = weight_ + k,
        .weight_stride = args_.weight_stride,
        .ahead = {.first = nullptr, .row_stride = args_.weight_stride, .step = kFetched<S, format>},
        .every = every_,
        .x = args_.packed_x + k * args_.rows,
        .depth = depth - depth % kStep,
        .rest = depth % kStep};
    piece.JoinLines(k, args_.depth - k);
    // After the last piece, what comes next is the beginning of the next stripe.
    const int64_t next = k + kPiecesAhead<S> * row_piece_;
    const int64_t beyond = next - pieces_end_;
    piece.ahead.first = weight_ + (beyond < 0 ? next : outputs_ * args_.weight_stride + beyond);
    F* sums = sums_;
    for (int64_t group = 0; group < groups_; ++group) {
      const int64_t rows = group_rows_[group];
      Rows<kGroupRows<S>>(rows, piece, sums);
      piece.x += rows * (piece.depth + (piece.rest > 0 ? kStep : 0));
      piece.ahead.first += fetched_;
      sums += rows;
    }
  }

  template <int kRows>
  XCOMPOSER_INLINE void Rows(int64_t rows, const Piece<S, format>& piece, F* sums) const {
    if constexpr (kRows > 1) {
      if (rows < kRows) return Rows<kRows - 1>(rows, piece, sums);
    }
    Outputs<kRows>(piece, sums);
  }

  template <int kRows>
  void Outputs(Piece<S, format> piece, F* sums) const {
    constexpr int kOutputs = TileOutputs<S>(kRows);
    int64_t n = 0;
    for (; n + kOutputs <= outputs_; n += kOutputs) {
      PieceTile<S, format, kOutputs, kRows>(piece, sums + n * args_.rows, args_.rows);
      piece.weight += kOutputs * args_.weight_stride;
      piece.ahead.first += kOutputs * args_.weight_stride;
    }
    for (; n < outputs_; ++n) {
      PieceTile<S, format, 1, kRows>(piece, sums + n * args_.rows, args_.rows);
      piece.weight += args_.weight_stride;
      piece.ahead.first += args_.weight_stride;
    }
  }

  void Finish() const {
    for (int64_t row = 0; row < args_.rows; ++row) {
      for (int64_t n = 0; n < outputs_; ++n) {
        FinishSum(args_, row, n_ + n, S::Sum(sums_[n * args_.rows + row]));
      }
    }
  }

  const LinearKernelArgs& args_;
  const Element* weight_;
  int64_t n_;
  int64_t outputs_;
  int64_t row_piece_;
  int64_t groups_;
  int64_t pieces_end_;  ///< of the last piece, were it a whole one
  int64_t every_;       ///< inputs that are worked on for each line that is fetched
  int64_t fetched_;     ///< inputs that a group of rows fetches of a piece
  int64_t group_rows_[kMostRows];
  F sums_[kStripe * kMostRows];  // (output, row)
};

/// Outputs whose weights are read side by side, with so many rows of x, as measured. In order (Zen
/// 5 with AVX2): one row takes between 4 % more and 16 % less time than out of order, two 5 to 16 %
/// less, three and four 12 to 31 % less.
template <typename S, bool kInOrder>
constexpr int RunOutputs(int rows) {
  if (kInOrder) return rows <= 3 ? 3 : 2;
  if (S::kWidth < 16) return rows == 1 ? 8 : rows == 4 ? 3 : 4;
  return rows <= 2 ? 6 : rows <= 5 ? 4 : 3;
}

/// All rows of x there are, up to kRows.
template <typename S, Format format, int kRows, bool kInOrder>
inline void LongRuns(const LinearKernelArgs& args, int64_t n, int64_t n_end) {
  if constexpr (kRows > 1) {
    if (args.rows < kRows) return LongRuns<S, format, kRows - 1, kInOrder>(args, n, n_end);
  }
  constexpr int kOutputs = RunOutputs<S, kInOrder>(kRows);
  for (; n + kOutputs <= n_end; n += kOutputs) {
    DotRows<S, format, kOutputs, kRows, kInOrder>(args, n);
  }
  for (; n < n_end; ++n) DotRows<S, format, 1, kRows, kInOrder>(args, n);
}

/// Rows of the weight [n_begin, n_end) with up to kMostRows rows of x, packed before.
template <typename S, Format format>
void LinearRows(const LinearKernelArgs& args, int64_t n_begin, int64_t n_end) {
  if constexpr (kReadsLines<S, format>) {
    if (IsOneStream(args)) {
      return RunOneStream<S, format, kStreamRows>(args, n_begin, n_end);
    }
  }
  if (args.rows <= (args.one_stream_x > 0 ? kDotRows<S> : kMostDotRows<S>)) {
    if constexpr (S::kWidth < 16) {
      if (AsksInOrder(args)) {
        return LongRuns<S, format, kMostDotRows<S>, true>(args, n_begin, n_end);
      }
    }
    return LongRuns<S, format, kMostDotRows<S>, false>(args, n_begin, n_end);
  }
  for (int64_t n = n_begin; n < n_end; n += kStripe) {
    Stripe<S, format>(args, n, n_end - n < kStripe ? n_end - n : kStripe).Run();
  }
}

}  // namespace xcomposer::cpu
