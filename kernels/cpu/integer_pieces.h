#pragma once

#include "kernels/cpu/integer_codes.h"
#include "kernels/cpu/integer_stored.h"
#include "kernels/cpu/integer_x.h"
#include "kernels/cpu/kernel_args.h"
#include "kernels/cpu/packed_matrix.h"
#include "kernels/cpu/simd.h"

namespace xcomposer::cpu {

// Many rows of x with a weight in GPTQ's layout, in integers (integer_panels.h): the codes of a
// piece of the weight, kIntegerDepth inputs of one panel of outputs, are taken out of their words
// once for all rows of x.

/// What is unpacked of a piece. Blocks as IntegerBlock has them; the last one may be shorter.
struct UnpackedPiece {
  uint32_t* codes = nullptr;  ///< (dword, output)
  uint32_t* zeros = nullptr;  ///< (block, output)
  float* scales = nullptr;    ///< (block, output)
  int64_t depth = 0;          ///< inputs
};

/// Floats of scratch memory for a piece.
template <typename S>
inline constexpr int64_t kPieceFloats =
    kIntegerColumns<S>*(kIntegerDepth / 2 + 2 * kIntegerDepth / IntegerBlock(Packing::kGptq4));

/// Of `depth` inputs from k on and kVectors vectors of outputs from n on, the last of which may
/// have fewer `lanes`.
template <typename S, Packing packing, int kVectors>
inline UnpackedPiece UnpackPiece(const LinearKernelArgs& args, int64_t k, int64_t depth, int64_t n,
                                 int64_t lanes, float* memory) {
  constexpr int64_t kBlock = IntegerCodes<S, packing>::kBlock;
  constexpr int64_t kColumns = kVectors * S::kWidth;
  constexpr int64_t kBlocks = kIntegerDepth / kBlock;
  constexpr int kDwords = IntegerCodes<S, packing>::kDwords;
  auto* zeros = reinterpret_cast<uint32_t*>(memory + kBlocks * kColumns);
  const UnpackedPiece piece{
      .codes = zeros + kBlocks * kColumns, .zeros = zeros, .scales = memory, .depth = depth};
  uint32_t* codes = piece.codes;
  float* scales = piece.scales;
  for (int64_t begin = k; begin < k + depth; begin += kBlock) {
    const int64_t left = k + depth - begin;
    const StoredCodes<S, packing, kVectors> stored(args, begin, begin / args.group, n, lanes);
    XCOMPOSER_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      S::StoreWords(zeros + v * S::kWidth, stored.Zeros(v));
      S::Store(scales + v * S::kWidth, stored.Scales(v));
    }
    zeros += kColumns;
    scales += kColumns;
    const uint32_t* row = stored.words;
    for (int64_t word = 0; word < (left < kBlock ? left : kBlock) / InputsOfWord(packing); ++word) {
      XCOMPOSER_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        S::StoreWords(codes + v * S::kWidth, stored.template Codes<0>(row, v));
        if constexpr (kDwords == 2) {
          S::StoreWords(codes + (kVectors + v) * S::kWidth, stored.template Codes<1>(row, v));
        }
      }
      row += stored.stride;
      codes += kDwords * kColumns;
    }
  }
  return piece;
}

/// The words of the piece that comes next. Its rows of words are short and far apart, where the
/// processor does not look ahead by itself, so tiles ask for some of them with each block of inputs
/// that they multiply. In longer bursts that was worth half as much, or nothing.
struct WordsAhead {
  const uint32_t* words = nullptr;
  int64_t stride = 0;
  int64_t rows = 0;  ///< left to ask for
  int64_t rows_at_a_time = 0;

  template <typename S>
  XCOMPOSER_INLINE void Fetch(int64_t outputs) {
    for (int64_t i = 0; i < rows_at_a_time && rows > 0; ++i, --rows) {
      for (int64_t n = 0; n < outputs; n += 16) S::Prefetch(words + n);
      words += stride;
    }
  }
};

/// Adds the products of kRows rows of a panel of x to y (row, output), whose rows are
/// kIntegerColumns apart. `x`: the first block of the piece.
///
/// Not inlined, and one dword a turn: otherwise the compiler finds so much to do at the same time
/// that it keeps sums in memory.
template <typename S, Packing packing, int kVectors, int kRows>
XCOMPOSER_NOINLINE void PieceTile(const LinearKernelArgs& args, const UnpackedPiece& weight,
                                  RoundedBlock x, WordsAhead& ahead, float* y) {
  using F = typename S::F;
  using W = typename S::W;
  constexpr int64_t kBlock = IntegerCodes<S, packing>::kBlock;
  constexpr int64_t kColumns = kVectors * S::kWidth;
  const uint32_t* codes = weight.codes;
  const uint32_t* zeros = weight.zeros;
  const float* scales = weight.scales;
  for (int64_t left = weight.depth; left > 0; left -= kBlock) {
    y = Unknown<S>(y);
    ahead.Fetch<S>(kColumns);
    W sums[kRows][kVectors];
    XCOMPOSER_UNROLL
    for (int t = 0; t < kRows; ++t) {
      XCOMPOSER_UNROLL
      for (int v = 0; v < kVectors; ++v) sums[t][v] = S::SetWords(0);
    }
    const int64_t dwords =
        (left < kBlock ? left : kBlock) / InputsOfWord(packing) * IntegerCodes<S, packing>::kDwords;
    for (int64_t dword = 0; dword < dwords; ++dword) {
      W some[kVectors];
      XCOMPOSER_UNROLL
      for (int v = 0; v < kVectors; ++v) some[v] = S::LoadWords(codes + v * S::kWidth);
      AddProducts<S, packing>(some, x.codes, sums);
      codes += kColumns;
      x.codes += args.panel_rows;
    }
    XCOMPOSER_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      const W zero = S::LoadWords(zeros + v * S::kWidth);
      const F scale = S::Load(scales + v * S::kWidth);
      XCOMPOSER_UNROLL
      for (int t = 0; t < kRows; ++t) {
        AddBlock<S, packing>(sums[t][v], zero, scale, x.sums[t], x.scales[t],
                             y + t * kIntegerColumns<S> + v * S::kWidth);
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
inline void PieceRows(int64_t rows, const LinearKernelArgs& args, const UnpackedPiece& weight,
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
  const int64_t depth = args.depth - k < kIntegerDepth ? args.depth - k : kIntegerDepth;
  const int64_t panels = (block.row_end - block.row_begin + args.panel_rows - 1) / args.panel_rows;
  const int64_t turns = panels * (kIntegerDepth / IntegerCodes<S, packing>::kBlock);
  return {.words = static_cast<const uint32_t*>(args.weight) + k / kInputs * args.outputs + n,
          .stride = args.outputs,
          .rows = depth / kInputs,
          .rows_at_a_time = (depth / kInputs + turns - 1) / turns};
}

/// Adds the products of one panel of outputs, kVectors vectors from n on, with the inputs
/// [begin, end) and the given rows of x to y (panel of x, row, output).
template <typename S, Packing packing, int kVectors>
inline void MultiplyPieces(const LinearKernelArgs& args, const LinearBlock& rows, int64_t begin,
                           int64_t end, int64_t n, int64_t lanes, float* memory, float* y) {
  for (int64_t k = begin; k < end; k += kIntegerDepth) {
    const int64_t depth = end - k < kIntegerDepth ? end - k : kIntegerDepth;
    const UnpackedPiece weight =
        UnpackPiece<S, packing, kVectors>(args, k, depth, n, lanes, memory);
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
