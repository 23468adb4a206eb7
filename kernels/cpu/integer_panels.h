#pragma once

#include "kernels/cpu/integer_codes.h"
#include "kernels/cpu/integer_pieces.h"
#include "kernels/cpu/integer_rows.h"
#include "kernels/cpu/integer_stored.h"
#include "kernels/cpu/integer_x.h"
#include "kernels/cpu/kernel_args.h"
#include "kernels/cpu/linear_panels.h"
#include "kernels/cpu/packed_matrix.h"
#include "kernels/cpu/simd.h"

namespace xcomposer::cpu {

// Quantised weights in GPTQ's layout times rounded rows of x, in integers. A lane is an output. The
// sum over a block of inputs is exact in 32 bits, so that it is the same for every shape of the
// batch, and in every instruction set that rounds x alike (IntegerCodes); the blocks of a span of
// inputs (kIntegerSpan) are then added up in float32 in ascending order, and so are the spans. So a
// row's result does not depend on the other rows, nor on whether it is decoded or part of a prompt.
//
// Two dwords of codes come out of one word of the weight, and meet the two dwords of x that
// integer_x.h made for it; or the word itself meets one.

/// Inputs that are worked on at a time while streaming: few enough rows of words to be read as long
/// streams. A block of more inputs is kept as integers meanwhile.
inline constexpr int64_t kStreamedDepth = 32;

/// What becomes of the sums of a tile: added to y, both as (row, column of the panel). A part of a
/// block that is not the last is left in `partial`, one that is not the first begins there.
struct IntegerSums {
  float* y = nullptr;
  uint32_t* partial = nullptr;
  bool first = true;
  bool last = true;
};

/// One block of inputs, or where kWhole is false a part of one: kRows rows of a panel of x with
/// kVectors vectors of outputs.
template <typename S, Packing packing, int kVectors, int kRows, bool kWhole>
XCOMPOSER_NOINLINE void StreamTile(const LinearKernelArgs& args, const RoundedBlock& x,
                                   const StoredCodes<S, packing, kVectors>& weight,
                                   const IntegerSums& to) {
  using F = typename S::F;
  using W = typename S::W;
  W sums[kRows][kVectors];
  XCOMPOSER_UNROLL
  for (int t = 0; t < kRows; ++t) {
    XCOMPOSER_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      sums[t][v] = kWhole || to.first
                       ? S::SetWords(0)
                       : S::LoadWords(to.partial + (t * kIntegerColumns<S> + v * S::kWidth));
    }
  }
  const uint32_t* dwords = x.codes;
  const uint32_t* row = weight.words;
  for (int64_t word = 0; word < x.words; ++word) {
    W codes[kVectors];
    XCOMPOSER_UNROLL
    for (int v = 0; v < kVectors; ++v) codes[v] = weight.template Codes<0>(row, v);
    AddProducts<S, packing>(codes, dwords, sums);
    dwords += args.panel_rows;
    if constexpr (IntegerCodes<S, packing>::kDwords == 2) {
      row = Unknown<S>(row);  // the words are loaded anew, for want of registers
      XCOMPOSER_UNROLL
      for (int v = 0; v < kVectors; ++v) codes[v] = weight.template Codes<1>(row, v);
      AddProducts<S, packing>(codes, dwords, sums);
      dwords += args.panel_rows;
    }
    row += weight.stride;
  }
  if (!kWhole && !to.last) {
    XCOMPOSER_UNROLL
    for (int t = 0; t < kRows; ++t) {
      XCOMPOSER_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        S::StoreWords(to.partial + (t * kIntegerColumns<S> + v * S::kWidth), sums[t][v]);
      }
    }
    return;
  }
  XCOMPOSER_UNROLL
  for (int v = 0; v < kVectors; ++v) {
    const W zeros = weight.Zeros(v);
    const F scales = weight.Scales(v);
    XCOMPOSER_UNROLL
    for (int t = 0; t < kRows; ++t) {
      AddBlock<S, packing>(sums[t][v], zeros, scales, x.sums[t], x.scales[t],
                           to.y + (t * kIntegerColumns<S> + v * S::kWidth));
    }
  }
}

/// StreamTile for `rows` <= S::kIntegerRows that are known only now.
template <typename S, Packing packing, int kVectors, int kRows, bool kWhole>
inline void StreamRows(int64_t rows, const LinearKernelArgs& args, const RoundedBlock& x,
                       const StoredCodes<S, packing, kVectors>& weight, const IntegerSums& to) {
  if constexpr (kRows > 1) {
    if (rows < kRows) {
      return StreamRows<S, packing, kVectors, kRows - 1, kWhole>(rows, args, x, weight, to);
    }
  }
  StreamTile<S, packing, kVectors, kRows, kWhole>(args, x, weight, to);
}

/// Asks for the words that come after the next ones: of the same inputs, or at the end of the
/// outputs of the next inputs. The rows of words lie far apart, where the processor does not look
/// ahead by itself.
template <typename S, Packing packing>
XCOMPOSER_INLINE void FetchWords(const LinearKernelArgs& args, const LinearBlock& block, int64_t k,
                                 int64_t depth, int64_t n) {
  constexpr int64_t kStep = S::kIntegerVectors * S::kWidth;
  constexpr int64_t kAhead = (packing == Packing::kGptq8 ? 4 : 8) * kStep;
  int64_t place = n + kAhead;
  if (place >= block.n_end) {
    place = block.n_begin + place - block.n_end;
    k += depth;
    if (place >= block.n_end || k + depth > args.depth) return;
  }
  const uint32_t* words =
      static_cast<const uint32_t*>(args.weight) + k * BitsOf(packing) / 32 * args.outputs + place;
  for (int64_t word = 0; word < depth * BitsOf(packing) / 32; ++word) {
    for (int64_t i = 0; i < kStep; i += 16) S::Prefetch(words + word * args.outputs + i);
  }
}

/// Inputs of one block from k on, in group g, with kVectors vectors of outputs from n on and each
/// panel of x; `x` has one for each.
template <typename S, Packing packing, int kVectors>
inline void StreamColumns(const LinearKernelArgs& args, const RoundedBlock* x, int64_t k, int64_t g,
                          int64_t n, int64_t lanes, IntegerSums to) {
  constexpr bool kWhole = IntegerCodes<S, packing>::kBlock <= kStreamedDepth;
  const StoredCodes<S, packing, kVectors> weight(args, k, g, n, lanes);
  for (int64_t left = args.rows; left > 0; left -= args.panel_rows) {
    StreamRows<S, packing, kVectors, S::kIntegerRows, kWhole>(
        left < args.panel_rows ? left : args.panel_rows, args, *x++, weight, to);
    to.y += args.panel_rows * kIntegerColumns<S>;
    to.partial += args.panel_rows * kIntegerColumns<S>;
  }
}

/// Inputs [begin, end), of one span.
struct IntegerInputs {
  int64_t begin = 0;
  int64_t end = 0;
};

template <typename S>
inline void AddSums(float* to, const float* sums, int64_t count) {
  for (int64_t i = 0; i < count; i += S::kWidth) {
    S::Store(to + i, S::Add(S::Load(to + i), S::Load(sums + i)));
  }
}

/// Few rows of x: runs of outputs, a few rows of words at a time.
template <typename S, Packing packing>
inline void StreamIntegers(const LinearKernelArgs& args, const LinearBlock& block,
                           const IntegerInputs& inputs, float* sums, uint32_t* partial) {
  constexpr int64_t kColumns = kIntegerColumns<S>;
  constexpr int64_t kBlock = IntegerCodes<S, packing>::kBlock;
  const int64_t panels = (args.rows + args.panel_rows - 1) / args.panel_rows;
  const int64_t panel_sums = panels * args.panel_rows * kColumns;
  for (int64_t k = inputs.begin; k < inputs.end; k += kStreamedDepth) {
    const int64_t depth = inputs.end - k < kStreamedDepth ? inputs.end - k : kStreamedDepth;
    IntegerSums to{.y = sums,
                   .partial = partial,
                   .first = k % kBlock == 0,
                   .last = (k + depth) % kBlock == 0 || k + depth == args.depth};
    RoundedBlock x[kStreamedPanels];
    for (int64_t panel = 0; panel < panels; ++panel) {
      x[panel] = BlockOfX<S, packing>(args, panel, k, depth);
    }
    const int64_t g = k / args.group;
    int64_t n = block.n_begin;
    for (; n + kColumns <= block.n_end; n += kColumns) {
      FetchWords<S, packing>(args, block, k, depth, n);
      StreamColumns<S, packing, S::kIntegerVectors>(args, x, k, g, n, S::kWidth, to);
      to.y += panel_sums;
      to.partial += panel_sums;
    }
    for (; n < block.n_end; n += S::kWidth) {
      const int64_t lanes = block.n_end - n < S::kWidth ? block.n_end - n : S::kWidth;
      StreamColumns<S, packing, 1>(args, x, k, g, n, lanes, to);
      to.y += S::kWidth;
      to.partial += S::kWidth;
    }
  }
}

/// Many rows of x, one panel of outputs after the other.
template <typename S, Packing packing>
inline void MultiplyIntegers(const LinearKernelArgs& args, const LinearBlock& block,
                             const IntegerInputs& inputs, int64_t panel_sums, float* memory,
                             float* totals) {
  constexpr int64_t kColumns = kIntegerColumns<S>;
  float* sums = memory + kPieceFloats<S>;
  const auto panel = [&](const auto& multiply) {
    float* to = inputs.begin == 0 ? totals : sums;
    for (int64_t i = 0; i < panel_sums; i += S::kWidth) S::Store(to + i, S::Zero());
    multiply(to);
    if (inputs.begin > 0) AddSums<S>(totals, sums, panel_sums);
  };
  int64_t n = block.n_begin;
  for (; n + kColumns <= block.n_end; n += kColumns) {
    panel([&](float* to) {
      MultiplyPieces<S, packing, S::kIntegerVectors>(args, block, inputs.begin, inputs.end, n,
                                                     S::kWidth, memory, to);
    });
    totals += panel_sums;
  }
  if (n == block.n_end) return;
  panel([&](float* to) {
    for (; n < block.n_end; n += S::kWidth) {
      const int64_t lanes = block.n_end - n < S::kWidth ? block.n_end - n : S::kWidth;
      MultiplyPieces<S, packing, 1>(args, block, inputs.begin, inputs.end, n, lanes, memory, to);
      to += S::kWidth;
    }
  });
}

/// The block of x rows [row_begin, row_end) (row_begin a multiple of panel_rows) with the weight's
/// outputs [n_begin, n_end). `memory`: kPieceFloats floats, and three for each sum, in whole panels
/// of x and of the weight.
template <typename S, Packing packing>
void LinearIntegers(const LinearKernelArgs& args, const LinearBlock& block, float* memory) {
  constexpr int64_t kColumns = kIntegerColumns<S>;
  const int64_t panels = (block.row_end - block.row_begin + args.panel_rows - 1) / args.panel_rows;
  const int64_t panel_sums = panels * args.panel_rows * kColumns;
  const int64_t columns = (block.n_end - block.n_begin + kColumns - 1) / kColumns;
  const int64_t count = columns * panel_sums;
  const bool many = panels > kStreamedPanels;
  float* totals = memory + (many ? kPieceFloats<S> + panel_sums : 2 * count);
  for (int64_t k = 0; k < args.depth; k += kIntegerSpan) {
    const IntegerInputs inputs{k, args.depth - k < kIntegerSpan ? args.depth : k + kIntegerSpan};
    if (many) {
      MultiplyIntegers<S, packing>(args, block, inputs, panel_sums, memory, totals);
      continue;
    }
    float* sums = k == 0 ? totals : memory;
    for (int64_t i = 0; i < count; i += S::kWidth) S::Store(sums + i, S::Zero());
    StreamIntegers<S, packing>(args, block, inputs, sums,
                               reinterpret_cast<uint32_t*>(memory + count));
    if (k > 0) AddSums<S>(totals, sums, count);
  }
  for (int64_t n = block.n_begin; n < block.n_end; n += kColumns) {
    FinishPanel<S, kIntegerColumns<S>>(
        args,
        {.row_begin = block.row_begin,
         .row_end = block.row_end,
         .n_begin = n,
         .n_end = n + kColumns < block.n_end ? n + kColumns : block.n_end},
        totals + (n - block.n_begin) / kColumns * panel_sums);
  }
}

/// RowRange for args.rows <= kRows that are known only now.
template <typename S, Packing packing, int kRows>
inline void FewRowRange(const LinearKernelArgs& args, const LinearBlock& block, int64_t begin,
                        int64_t end, const RowSums& to) {
  if constexpr (kRows > 1) {
    if (args.rows < kRows) {
      return FewRowRange<S, packing, kRows - 1>(args, block, begin, end, to);
    }
  }
  RowRange<S, packing, kRows>(args, block, begin, end, to);
}

/// Up to kFewRows rows of x with the weight's outputs [n_begin, n_end) and one span of
/// inputs; outputs and inputs are multiples of kIntegerRowGrain.
template <typename S, Packing packing>
void LinearIntegerRows(const LinearKernelArgs& args, const LinearBlock& block, int64_t span,
                       const RowSums& to) {
  const int64_t width = block.n_end - block.n_begin;
  const int64_t begin = span * kIntegerSpan;
  const int64_t end = args.depth - begin < kIntegerSpan ? args.depth : begin + kIntegerSpan;
  for (int64_t t = 0; t < args.rows; ++t) {
    for (int64_t i = 0; i < width; i += S::kWidth) {
      S::Store(to.sums + t * to.stride + i, S::Zero());
    }
  }
  FewRowRange<S, packing, kFewRows<S, packing>>(args, block, begin, end, to);
}

/// y of a few rows of x and the outputs [n_begin, n_end), n_begin a multiple of 16, from the sums
/// (span, row, output), rows `stride` apart.
template <typename S>
void FinishSpans(const LinearKernelArgs& args, float* sums, int64_t stride, int64_t n_begin,
                 int64_t n_end) {
  for (int64_t t = 0; t < args.rows; ++t) {
    float* row = sums + t * stride + n_begin;
    for (int64_t k = args.span; k < args.depth; k += args.span) {
      AddSums<S>(row, row + k / args.span * args.rows * stride, n_end - n_begin);
    }
    FinishPanel<S, kIntegerColumns<S>>(
        args, {.row_begin = t, .row_end = t + 1, .n_begin = n_begin, .n_end = n_end}, row);
  }
}

}  // namespace xcomposer::cpu
