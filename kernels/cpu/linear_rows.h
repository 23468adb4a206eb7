#pragma once

#include "kernels/cpu/kernel_args.h"
#include "kernels/cpu/linear_row.h"
#include "kernels/cpu/simd.h"

namespace xcomposer::cpu {

// Few rows of x (decoding): every row of the weight is read from memory once, several rows at a
// time as independent streams, and multiplied with all rows of x while it is in the cache. A sum is
// taken over S::kWidth interleaved partial sums in ascending order of k and does not depend on
// which rows of x or of the weight happen to share the loop.

/// Up to so many rows of x, long runs of a few rows of the weight are read.
inline constexpr int kDotRows = 4;
/// Most rows of x that LinearRows takes.
inline constexpr int64_t kMostRows = 32;
/// Outputs whose sums are kept while all of K is read, piece by piece, for more rows.
inline constexpr int64_t kStripe = 6;
/// Far enough ahead that the line has arrived, near enough that it is still there.
inline constexpr int64_t kPrefetchBytes = 1024;

/// Between the piece of the weight that is worked on and the one that is fetched for later: with
/// fewer than twelve rows of x, one piece takes less time than memory does to answer.
inline constexpr int64_t kPiecesAhead = 2;

/// Rows of x in a tile of sums, at most. With eight floats a vector, bfloat16's mask takes the
/// place of a sum among the sixteen registers.
template <typename S, Format format>
inline constexpr int kGroupRows = S::kWidth == 16               ? 8
                                  : format == Format::kBfloat16 ? 5
                                                                : 6;

/// Outputs in a tile of so many rows: as many sums as registers hold.
template <typename S>
constexpr int TileOutputs(int rows) {
  return S::kWidth == 16 || rows <= 3 ? 3 : 2;
}

/// Groups of rows of equal size, so that the last one is not a crumb.
template <typename S, Format format>
XCOMPOSER_INLINE int64_t GroupsOf(int64_t rows) {
  return (rows + kGroupRows<S, format> - 1) / kGroupRows<S, format>;
}

/// Packs the pieces [begin, end) of x as (piece, group of rows, step, row, input), a step being two
/// vectors of inputs in the order in which S::LoadFirst and S::LoadSecond give the weights: a tile
/// reads x from one place on. What is left of the last step is filled with zeros.
template <typename S, Format format>
void LinearPackPieces(const LinearKernelArgs& args, int64_t begin, int64_t end) {
  constexpr int64_t kStep = 2 * S::kWidth;
  const int64_t groups = GroupsOf<S, format>(args.rows);
  for (int64_t k = begin * kRowPiece; k < args.depth && k < end * kRowPiece; k += kRowPiece) {
    const int64_t depth = args.depth - k < kRowPiece ? args.depth - k : kRowPiece;
    float* out = args.packed_x + k * args.rows;
    for (int64_t group = 0; group < groups; ++group) {
      const int64_t row_end = args.rows * (group + 1) / groups;
      for (int64_t i = 0; i < depth; i += kStep) {
        for (int64_t row = args.rows * group / groups; row < row_end; ++row) {
          const float* x = args.x + row * args.x_stride + k;
          for (int64_t j = 0; j < kStep; ++j) {
            const int64_t from = i + S::template PairPlace<format>(j);
            out[j] = from < depth ? x[from] : 0.0f;
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

/// One piece of some rows of the weight, and of some rows of x.
template <typename S, Format format>
struct Piece {
  using Element = typename ElementOf<format>::Type;

  const Element* weight;
  int64_t weight_stride;
  const Element* ahead;  ///< to fetch meanwhile, rows like those of the weight
  int64_t every;         ///< inputs that are worked on for each line that is fetched
  const float* x;        ///< packed
  int64_t depth;         ///< inputs, in whole pairs of vectors ...
  int64_t rest;          ///< ... and what is left after them
};

/// Products of one step of inputs added to the tile.
template <typename S, Format format, int kOutputs, int kRows>
XCOMPOSER_INLINE void AddStep(const typename ElementOf<format>::Type* weight, int64_t weight_stride,
                              const float* x, typename S::F (&tile)[kOutputs][kRows]) {
  using F = typename S::F;
  XCOMPOSER_UNROLL
  for (int half = 0; half < 2; ++half) {
    F w[kOutputs];
    XCOMPOSER_UNROLL
    for (int o = 0; o < kOutputs; ++o) {
      const auto* place = weight + o * weight_stride;
      w[o] =
          half == 0 ? S::template LoadFirst<format>(place) : S::template LoadSecond<format>(place);
    }
    XCOMPOSER_UNROLL
    for (int t = 0; t < kRows; ++t) {
      const F column = S::Keep(S::Load(x + (2 * t + half) * S::kWidth));
      XCOMPOSER_UNROLL
      for (int o = 0; o < kOutputs; ++o) tile[o][t] = S::Fma(w[o], column, tile[o][t]);
    }
  }
}

template <typename S, Format format, int kOutputs, int kRows>
XCOMPOSER_INLINE void AddPiece(const Piece<S, format>& piece,
                               typename S::F (&tile)[kOutputs][kRows]) {
  using Element = typename ElementOf<format>::Type;
  constexpr int64_t kStep = 2 * S::kWidth;
  const Element* ahead = piece.ahead;
  int64_t due = 0;
  for (int64_t k = 0; k < piece.depth; k += kStep) {
    if (k == due) {
      XCOMPOSER_UNROLL
      for (int o = 0; o < kOutputs; ++o) {
        for (int64_t line = 0; line < kFetched<S, format>; line += kLine<format>) {
          S::Prefetch(ahead + o * piece.weight_stride + line);
        }
      }
      ahead += kFetched<S, format>;
      due += piece.every;
    }
    AddStep<S, format, kOutputs, kRows>(piece.weight + k, piece.weight_stride, piece.x + k * kRows,
                                        tile);
  }
  if (piece.rest > 0) {
    Element copy[kOutputs * kStep] = {};
    for (int o = 0; o < kOutputs; ++o) {
      std::memcpy(copy + o * kStep, piece.weight + o * piece.weight_stride + piece.depth,
                  static_cast<size_t>(piece.rest) * sizeof(Element));
    }
    AddStep<S, format, kOutputs, kRows>(copy, kStep, piece.x + piece.depth * kRows, tile);
  }
}

/// kOutputs rows of the weight with all kRows rows of x there are.
template <typename S, Format format, int kOutputs, int kRows>
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
  // From here on, what comes next is the beginning of the next rows of the loop.
  const int64_t turn = (args.depth - kAhead) / kStep * kStep;
  for (int64_t k = 0; k < args.depth;) {
    const int64_t end = k < turn ? turn : args.depth;
    const int64_t ahead =
        k < turn ? k + kAhead : k + kAhead - args.depth + kOutputs * args.weight_stride;
    AddPiece<S, format, kOutputs, kRows>({.weight = weight + k,
                                          .weight_stride = args.weight_stride,
                                          .ahead = weight + ahead,
                                          .every = kFetched<S, format>,
                                          .x = args.packed_x + k * kRows,
                                          .depth = (end - k) / kStep * kStep,
                                          .rest = (end - k) % kStep},
                                         tile);
    k = end;
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
  AddPiece<S, format, kOutputs, kRows>(piece, tile);
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
        groups_(GroupsOf<S, format>(args.rows)) {
    for (int64_t group = 0; group < groups_; ++group) {
      group_rows_[group] = args.rows * (group + 1) / groups_ - args.rows * group / groups_;
    }
  }

  void Run() {
    for (int64_t i = 0; i < outputs_ * args_.rows; ++i) sums_[i] = S::Zero();
    for (int64_t k = 0; k < args_.depth; k += kRowPiece) Groups(k);
    Finish();
  }

 private:
  using F = typename S::F;
  using Element = typename ElementOf<format>::Type;
  static constexpr int64_t kStep = 2 * S::kWidth;

  /// The inputs from k on. Every group of rows fetches its share of what comes next, so that memory
  /// is never idle.
  void Groups(int64_t k) {
    const int64_t depth = args_.depth - k < kRowPiece ? args_.depth - k : kRowPiece;
    const int64_t lines = (kRowPiece + kFetched<S, format> - 1) / kFetched<S, format>;
    const int64_t share = (lines + groups_ - 1) / groups_;
    const int64_t every = kRowPiece / share / kStep * kStep;
    Piece<S, format> piece{.weight = weight_ + k,
                           .weight_stride = args_.weight_stride,
                           .ahead = nullptr,
                           .every = every > kStep ? every : kStep,
                           .x = args_.packed_x + k * args_.rows,
                           .depth = depth - depth % kStep,
                           .rest = depth % kStep};
    // After the last piece, what comes next is the beginning of the next stripe.
    const int64_t next = k + kPiecesAhead * kRowPiece;
    const int64_t beyond = next - (args_.depth + kRowPiece - 1) / kRowPiece * kRowPiece;
    piece.ahead = weight_ + (beyond < 0 ? next : outputs_ * args_.weight_stride + beyond);
    F* sums = sums_;
    for (int64_t group = 0; group < groups_; ++group) {
      const int64_t rows = group_rows_[group];
      Rows<kGroupRows<S, format>>(rows, piece, sums);
      piece.x += rows * (piece.depth + (piece.rest > 0 ? kStep : 0));
      piece.ahead += share * kFetched<S, format>;
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
      piece.ahead += kOutputs * args_.weight_stride;
    }
    for (; n < outputs_; ++n) {
      PieceTile<S, format, 1, kRows>(piece, sums + n * args_.rows, args_.rows);
      piece.weight += args_.weight_stride;
      piece.ahead += args_.weight_stride;
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
  int64_t groups_;
  int64_t group_rows_[kMostRows];
  F sums_[kStripe * kMostRows];  // (output, row)
};

/// Outputs whose weights are read side by side, with so many rows of x. One row has room for eight
/// streams, with which memory gives most; for more rows it was measured.
template <typename S>
constexpr int RunOutputs(int rows) {
  if (rows == 1) return 8;
  if (rows == 4) return S::kWidth < 16 ? 3 : 4;
  return S::kWidth < 16 ? 4 : 6;
}

/// All rows of x there are, up to kRows.
template <typename S, Format format, int kRows>
inline void LongRuns(const LinearKernelArgs& args, int64_t n, int64_t n_end) {
  if constexpr (kRows > 1) {
    if (args.rows < kRows) return LongRuns<S, format, kRows - 1>(args, n, n_end);
  }
  constexpr int kOutputs = RunOutputs<S>(kRows);
  for (; n + kOutputs <= n_end; n += kOutputs) DotRows<S, format, kOutputs, kRows>(args, n);
  for (; n < n_end; ++n) DotRows<S, format, 1, kRows>(args, n);
}

/// Rows of the weight [n_begin, n_end) with up to kMostRows rows of x, packed before.
template <typename S, Format format>
void LinearRows(const LinearKernelArgs& args, int64_t n_begin, int64_t n_end) {
  if constexpr (kHasOneRow<S, format>) {
    if (args.rows == 1 && args.depth <= kRunInputs) {
      return OneRow<S, format>(args).Run(n_begin, n_end);
    }
  }
  if (args.rows <= kDotRows) return LongRuns<S, format, kDotRows>(args, n_begin, n_end);
  for (int64_t n = n_begin; n < n_end; n += kStripe) {
    Stripe<S, format>(args, n, n_end - n < kStripe ? n_end - n : kStripe).Run();
  }
}

}  // namespace xcomposer::cpu
