#pragma once

#include "kernels/cpu/integer_codes.h"
#include "kernels/cpu/integer_stored.h"
#include "kernels/cpu/integer_x.h"
#include "kernels/cpu/kernel_args.h"
#include "kernels/cpu/linear_panels.h"
#include "kernels/cpu/packed_matrix.h"
#include "kernels/cpu/simd.h"

namespace xcomposer::cpu {

// A few rounded rows of x with a weight in panels, as decoding has them: the sums of
// integer_pieces.h, bit for bit, arranged for the weight to be read as fast as memory gives it. A
// panel is one run of words from the first input to the last, and its sums stay in registers and
// in the first cache meanwhile. The next panel follows in memory, so that a thread reads three
// streams (words, scales and zeros) from the beginning of its outputs to their end.

/// Rows of x that share a loop: as many sums of a panel as there are registers for.
template <typename S>
inline constexpr int kRowsTogether = S::kWidth < 8    ? 2
                                     : S::kWidth < 16 ? 6
                                                      : 16;

/// Rows of words between those that are worked on and those that are asked for: 6 KiB. Measured: 4
/// to 12 KiB are alike, with 1 KiB a row of x took up to 15 % longer.
inline constexpr int64_t kWordRowsAhead = 96;

/// Products of `words` rows of words with as many of x, added to the sums. `x` goes on.
template <typename S, Packing packing, int kRows, int kVectors>
XCOMPOSER_INLINE void AddRowWords(const uint32_t* row, int64_t words, const uint32_t*& x,
                                  typename S::W (&sums)[kRows][kVectors]) {
  using W = typename S::W;
  using Arithmetic = IntegerCodes<S, packing>;
  XCOMPOSER_UNROLL
  for (int64_t word = 0; word < words; ++word) {
    S::Prefetch(row + kWordRowsAhead * kPanelOutputs);
    W stored[kVectors];
    XCOMPOSER_UNROLL
    for (int v = 0; v < kVectors; ++v) stored[v] = S::LoadWords(row + v * S::kWidth);
    W codes[kVectors];
    XCOMPOSER_UNROLL
    for (int v = 0; v < kVectors; ++v) codes[v] = Arithmetic::template Half<0>(stored[v]);
    AddProducts<S, packing>(codes, x, sums);
    x += kRows;
    if constexpr (Arithmetic::kDwords == 2) {
      XCOMPOSER_UNROLL
      for (int v = 0; v < kVectors; ++v) codes[v] = Arithmetic::template Half<1>(stored[v]);
      AddProducts<S, packing>(codes, x, sums);
      x += kRows;
    }
    row += kPanelOutputs;
  }
}

/// The sums of one panel of outputs, from n on, with all inputs: `out` (row, output).
template <typename S, Packing packing, int kRows>
inline void RowPanel(const LinearKernelArgs& args, int64_t n, float* out) {
  using F = typename S::F;
  using W = typename S::W;
  using Arithmetic = IntegerCodes<S, packing>;
  constexpr int kVectors = kPanelOutputs / S::kWidth;
  constexpr int64_t kWords = Arithmetic::kBlock / InputsOfWord(packing);
  const StoredPanel<S, packing> weight(args, n / kPanelOutputs);
  const uint32_t* words = weight.words;
  const uint32_t* x = args.x_codes;
  const float* x_scales = args.x_scales;
  const int32_t* x_sums = args.x_sums;
  const int64_t groups_ahead = kWordRowsAhead * InputsOfWord(packing) / args.group + 1;
  for (int64_t i = 0; i < kRows * kPanelOutputs; i += S::kWidth) S::Store(out + i, S::Zero());
  int64_t g = 0;
  int64_t group_left = args.group;
  for (int64_t left = args.depth; left > 0; left -= Arithmetic::kBlock) {
    W sums[kRows][kVectors];
    XCOMPOSER_UNROLL
    for (int t = 0; t < kRows; ++t) {
      XCOMPOSER_UNROLL
      for (int v = 0; v < kVectors; ++v) sums[t][v] = S::SetWords(0);
    }
    S::Prefetch(weight.scales + (g + groups_ahead) * kPanelOutputs);
    S::Prefetch(weight.zeros + (g + groups_ahead) * StoredPanel<S, packing>::kZeroWords);
    if (left >= Arithmetic::kBlock) {
      AddRowWords<S, packing>(words, kWords, x, sums);
    } else {
      AddRowWords<S, packing>(words, left / InputsOfWord(packing), x, sums);
    }
    XCOMPOSER_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      const W zeros = weight.Zeros(g, v * S::kWidth);
      const F scales = weight.Scales(g, v * S::kWidth);
      XCOMPOSER_UNROLL
      for (int t = 0; t < kRows; ++t) {
        float* total = out + t * kPanelOutputs + v * S::kWidth;
        S::Store(total, BlockSum<S, packing>(sums[t][v], zeros, scales, x_sums[t], x_scales[t],
                                             S::Load(total)));
      }
    }
    words += kWords * kPanelOutputs;
    x_scales += kRows;
    x_sums += kRows;
    group_left -= Arithmetic::kBlock;
    if (group_left <= 0) {
      ++g;
      group_left = args.group;
    }
  }
}

/// For args.rows <= kRows that are known only now.
template <typename S, Packing packing, int kRows>
inline void RowPanels(const LinearKernelArgs& args, int64_t n_begin, int64_t n_end) {
  if constexpr (kRows > 1) {
    if (args.rows < kRows) return RowPanels<S, packing, kRows - 1>(args, n_begin, n_end);
  }
  for (int64_t n = n_begin; n < n_end; n += kPanelOutputs) {
    float sums[kRows * kPanelOutputs];
    RowPanel<S, packing, kRows>(args, n, sums);
    FinishPanel<S, kPanelOutputs>(
        args, {.row_begin = 0, .row_end = kRows, .n_begin = n, .n_end = n + kPanelOutputs}, sums);
  }
}

/// y of up to kRowsTogether rows of x and the outputs [n_begin, n_end), multiples of kPanelOutputs.
template <typename S, Packing packing>
void LinearIntegerRows(const LinearKernelArgs& args, int64_t n_begin, int64_t n_end) {
  RowPanels<S, packing, kRowsTogether<S>>(args, n_begin, n_end);
}

}  // namespace xcomposer::cpu
