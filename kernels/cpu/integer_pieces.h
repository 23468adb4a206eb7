#pragma once

#include "kernels/cpu/integer_codes.h"
#include "kernels/cpu/integer_stored.h"
#include "kernels/cpu/integer_x.h"
#include "kernels/cpu/kernel_args.h"
#include "kernels/cpu/packed_matrix.h"
#include "kernels/cpu/simd.h"

namespace xcomposer::cpu {

// Many rows of x with a weight in panels, in integers (integer_panels.h): the codes of a piece of
// the weight, kIntegerDepth inputs and one panel of S::kIntegerVectors vectors of outputs, are
// taken out of their words once for all rows of x. Where products are of whole words, those of the
// weight serve as they lie.

/// Outputs that are worked on at a time.
template <typename S>
inline constexpr int64_t kIntegerColumns = S::kIntegerVectors* S::kWidth;

/// Whether a piece's codes are the words of the weight.
template <typename S, Packing packing>
inline constexpr bool kTakesWords = IntegerCodes<S, packing>::kDwords == 1 &&
                                    (S::kWidth == kPanelOutputs ||
                                     kIntegerColumns<S> == kPanelOutputs);

/// Whether each vector of these is a panel.
template <typename S, Packing packing>
inline constexpr bool kTakesPanels = kTakesWords<S, packing>&& S::kWidth == kPanelOutputs;

/// A piece of the weight. Blocks as IntegerCodes has them; the last one may be shorter.
struct IntegerPiece {
  /// (dword, vector, output) where they were taken out of their words; else the words of the
  /// weight, whose vectors are panels or parts of one, `vector_stride` apart.
  const uint32_t* codes = nullptr;
  int64_t vector_stride = 0;
  const uint32_t* zeros = nullptr;  ///< (block, output)
  const float* scales = nullptr;    ///< (block, output)
  int64_t depth = 0;                ///< inputs
};

/// Floats of scratch memory for a piece.
template <typename S>
inline constexpr int64_t kPieceFloats =
    kIntegerColumns<S>*(kIntegerDepth / 2 + 2 * kIntegerDepth / IntegerBlock(Packing::kInt4));

/// The codes of one vector of outputs, two dwords of each word, `stride` apart.
template <typename S, Packing packing>
inline void UnpackWords(const uint32_t* words, int64_t count, uint32_t* codes, int64_t stride) {
  using Arithmetic = IntegerCodes<S, packing>;
  for (int64_t word = 0; word < count; ++word) {
    const auto stored = S::LoadWords(words);
    S::StoreWords(codes, Arithmetic::template Half<0>(stored));
    if constexpr (Arithmetic::kDwords == 2) {
      S::StoreWords(codes + stride, Arithmetic::template Half<1>(stored));
    }
    words += kPanelOutputs;
    codes += Arithmetic::kDwords * stride;
  }
}

/// Of `depth` inputs from k on and kVectors vectors of outputs from n on.
template <typename S, Packing packing, int kVectors>
inline IntegerPiece PieceOf(const LinearKernelArgs& args, int64_t k, int64_t depth, int64_t n,
                            float* memory) {
  constexpr int64_t kBlock = IntegerCodes<S, packing>::kBlock;
  constexpr int64_t kColumns = kVectors * S::kWidth;
  constexpr int64_t kBlocks = kIntegerDepth / kBlock;
  constexpr int64_t kInputs = InputsOfWord(packing);
  float* scales = memory;
  auto* zeros = reinterpret_cast<uint32_t*>(scales + kBlocks * kColumns);
  uint32_t* codes = zeros + kBlocks * kColumns;
  IntegerPiece piece{
      .codes = codes, .vector_stride = S::kWidth, .zeros = zeros, .scales = scales, .depth = depth};
  for (int v = 0; v < kVectors; ++v) {
    const int64_t output = n + v * S::kWidth;
    const int64_t lane = output % kPanelOutputs;
    const StoredPanel<S, packing> stored(args, output / kPanelOutputs);
    for (int64_t begin = 0; begin < depth; begin += kBlock) {
      const int64_t g = (k + begin) / args.group;
      const int64_t place = begin / kBlock * kColumns + v * S::kWidth;
      S::StoreWords(zeros + place, stored.Zeros(g, lane));
      S::Store(scales + place, stored.Scales(g, lane));
    }
    const uint32_t* words = stored.words + k / kInputs * kPanelOutputs + lane;
    if constexpr (kTakesWords<S, packing>) {
      if (v == 0) piece.codes = words;
    } else {
      UnpackWords<S, packing>(words, depth / kInputs, codes + v * S::kWidth, kColumns);
    }
  }
  if constexpr (kTakesPanels<S, packing>) {
    piece.vector_stride = args.depth / kInputs * kPanelOutputs;
  }
  return piece;
}

/// The words of the piece that comes next, in panels `panel_words` apart: tiles ask for some of
/// them with each block of inputs that they multiply. In longer bursts that was worth half as much,
/// or nothing.
struct WordsAhead {
  const uint32_t* words = nullptr;
  int64_t panel_words = 0;
  int64_t rows = 0;  ///< left to ask for
  int64_t rows_at_a_time = 0;

  template <typename S>
  XCOMPOSER_INLINE void Fetch(int64_t panels) {
    for (int64_t i = 0; i < rows_at_a_time && rows > 0; ++i, --rows) {
      for (int64_t panel = 0; panel < panels; ++panel) S::Prefetch(words + panel * panel_words);
      words += kPanelOutputs;
    }
  }
};

/// Adds the products of kRows rows of a panel of x to y (row, output), whose rows are
/// kIntegerColumns apart. `x`: the first block of the piece.
///
/// Not inlined: otherwise the compiler finds so much to do at the same time that it keeps sums in
/// memory.
template <typename S, Packing packing, int kVectors, int kRows>
XCOMPOSER_NOINLINE void PieceTile(const LinearKernelArgs& args, const IntegerPiece& weight,
                                  RoundedBlock x, WordsAhead& ahead, float* y) {
  using F = typename S::F;
  using W = typename S::W;
  constexpr int64_t kBlock = IntegerCodes<S, packing>::kBlock;
  constexpr int64_t kColumns = kVectors * S::kWidth;
  constexpr int64_t kStride = kTakesWords<S, packing> ? kPanelOutputs : kColumns;
  const int64_t vector_stride = kTakesPanels<S, packing> ? weight.vector_stride : S::kWidth;
  const uint32_t* codes = weight.codes;
  const uint32_t* zeros = weight.zeros;
  const float* scales = weight.scales;
  for (int64_t left = weight.depth; left > 0; left -= kBlock) {
    y = Unknown<S>(y);
    ahead.Fetch<S>((kColumns + kPanelOutputs - 1) / kPanelOutputs);
    W sums[kRows][kVectors];
    XCOMPOSER_UNROLL
    for (int t = 0; t < kRows; ++t) {
      XCOMPOSER_UNROLL
      for (int v = 0; v < kVectors; ++v) sums[t][v] = S::SetWords(0);
    }
    const int64_t dwords =
        (left < kBlock ? left : kBlock) / InputsOfWord(packing) * IntegerCodes<S, packing>::kDwords;
    XCOMPOSER_ONE_TURN
    for (int64_t dword = 0; dword < dwords; ++dword) {
      W some[kVectors];
      XCOMPOSER_UNROLL
      for (int v = 0; v < kVectors; ++v) some[v] = S::LoadWords(codes + v * vector_stride);
      AddProducts<S, packing>(some, x.codes, sums);
      codes += kStride;
      x.codes += args.panel_rows;
    }
    XCOMPOSER_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      const W zero = S::LoadWords(zeros + v * S::kWidth);
      const F scale = S::Load(scales + v * S::kWidth);
      XCOMPOSER_UNROLL
      for (int t = 0; t < kRows; ++t) {
        float* place = y + t * kIntegerColumns<S> + v * S::kWidth;
        S::Store(place, BlockSum<S, packing>(sums[t][v], zero, scale, x.sums[t], x.scales[t],
                                             S::Load(place)));
      }
    }
    zeros += kColumns;
    scales += kColumns;
    x.scales += args.packed_rows;
    x.sums += args.packed_rows;
  }
}

/// PieceTile for `rows` <= S::kIntegerRows that are known only now.
template <typename S, Packing packing, int kVectors, int kRows>
inline void PieceRows(int64_t rows, const LinearKernelArgs& args, const IntegerPiece& weight,
                      const RoundedBlock& x, WordsAhead& ahead, float* y) {
  if constexpr (kRows > 1) {
    if (rows < kRows) {
      return PieceRows<S, packing, kVectors, kRows - 1>(rows, args, weight, x, ahead, y);
    }
  }
  PieceTile<S, packing, kVectors, kRows>(args, weight, x, ahead, y);
}

/// What comes after the inputs before k of the outputs [n, n_end): the next of the inputs
/// [begin, end), else the first of them for the outputs that follow, else those behind `end` for
/// the block's first outputs.
template <typename S, Packing packing>
inline WordsAhead AheadOf(const LinearKernelArgs& args, const LinearBlock& block, int64_t begin,
                          int64_t end, int64_t k, int64_t n, int64_t n_end) {
  if (k == end && n_end < block.n_end) {
    k = begin;
    n = n_end;
  } else if (k == end) {
    n = block.n_begin;
  }
  constexpr int64_t kInputs = InputsOfWord(packing);
  const int64_t rows = (args.depth - k < kIntegerDepth ? args.depth - k : kIntegerDepth) / kInputs;
  const int64_t panels = (block.row_end - block.row_begin + args.panel_rows - 1) / args.panel_rows;
  const int64_t turns = panels * (kIntegerDepth / IntegerCodes<S, packing>::kBlock);
  const StoredPanel<S, packing> stored(args, n / kPanelOutputs);
  return {.words = stored.words + k / kInputs * kPanelOutputs,
          .panel_words = args.depth / kInputs * kPanelOutputs,
          .rows = rows,
          .rows_at_a_time = (rows + turns - 1) / turns};
}

/// Adds the products of one panel of outputs, kVectors vectors from n on, with the inputs
/// [begin, end) and the given rows of x to y (panel of x, row, output).
template <typename S, Packing packing, int kVectors>
inline void MultiplyPieces(const LinearKernelArgs& args, const LinearBlock& rows, int64_t begin,
                           int64_t end, int64_t n, float* memory, float* y) {
  for (int64_t k = begin; k < end; k += kIntegerDepth) {
    const int64_t depth = end - k < kIntegerDepth ? end - k : kIntegerDepth;
    const IntegerPiece weight = PieceOf<S, packing, kVectors>(args, k, depth, n, memory);
    float* to = y;
    WordsAhead ahead =
        AheadOf<S, packing>(args, rows, begin, end, k + depth, n, n + kVectors * S::kWidth);
    for (int64_t row = rows.row_begin; row < rows.row_end; row += args.panel_rows) {
      const int64_t left = rows.row_end - row;
      const RoundedBlock x = BlockOfX<S, packing>(args, row / args.panel_rows, k, depth);
      PieceRows<S, packing, kVectors, S::kIntegerRows>(
          left < args.panel_rows ? left : args.panel_rows, args, weight, x, ahead, to);
      to += args.panel_rows * kIntegerColumns<S>;
    }
  }
}

}  // namespace xcomposer::cpu
