#pragma once

#include "kernels/cpu/integer_pieces.h"
#include "kernels/cpu/integer_rows.h"
#include "kernels/cpu/integer_x.h"
#include "kernels/cpu/kernel_args.h"
#include "kernels/cpu/linear_panels.h"
#include "kernels/cpu/packed_matrix.h"
#include "kernels/cpu/simd.h"

namespace xcomposer::cpu {

// Quantised weights in panels times rounded rows of x, in integers. A lane is an output. The sum
// over a block of inputs is exact in 32 bits, so that it is the same for every shape of the batch,
// and in every instruction set that rounds x alike (IntegerCodes); the blocks are then added up in
// float32 in ascending order. So a row's result does not depend on the other rows, nor on whether
// it is decoded (integer_rows.h) or part of a prompt (integer_pieces.h).
//
// Two dwords of codes come out of one word of the weight, and meet the two dwords of x that
// integer_x.h made for it; or the word itself meets one.

/// Inputs that all outputs of a task meet before the next: the codes of x for them stay in the
/// second cache.
inline constexpr int64_t kTaskInputs = 512;

/// The block of x rows [row_begin, row_end) (row_begin a multiple of panel_rows) with the weight's
/// outputs [n_begin, n_end), multiples of kPanelOutputs. `memory`: kPieceFloats floats, and one for
/// each sum, in whole panels of x and of kIntegerColumns.
template <typename S, Packing packing>
void LinearIntegers(const LinearKernelArgs& args, const LinearBlock& block, float* memory) {
  constexpr int64_t kColumns = kIntegerColumns<S>;
  const int64_t panels = (block.row_end - block.row_begin + args.panel_rows - 1) / args.panel_rows;
  const int64_t panel_sums = panels * args.panel_rows * kColumns;
  const int64_t columns = (block.n_end - block.n_begin + kColumns - 1) / kColumns;
  float* sums = memory + kPieceFloats<S>;
  for (int64_t i = 0; i < columns * panel_sums; i += S::kWidth) S::Store(sums + i, S::Zero());
  for (int64_t k = 0; k < args.depth; k += kTaskInputs) {
    const int64_t end = args.depth - k < kTaskInputs ? args.depth : k + kTaskInputs;
    float* to = sums;
    int64_t n = block.n_begin;
    for (; n + kColumns <= block.n_end; n += kColumns) {
      MultiplyPieces<S, packing, S::kIntegerVectors>(args, block, k, end, n, memory, to);
      to += panel_sums;
    }
    for (; n < block.n_end; n += S::kWidth) {
      MultiplyPieces<S, packing, 1>(args, block, k, end, n, memory, to);
      to += S::kWidth;
    }
  }
  for (int64_t n = block.n_begin; n < block.n_end; n += kColumns) {
    FinishPanel<S, kColumns>(args,
                             {.row_begin = block.row_begin,
                              .row_end = block.row_end,
                              .n_begin = n,
                              .n_end = n + kColumns < block.n_end ? n + kColumns : block.n_end},
                             sums + (n - block.n_begin) / kColumns * panel_sums);
  }
}

}  // namespace xcomposer::cpu
