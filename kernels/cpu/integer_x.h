#pragma once

#include "kernels/cpu/integer_codes.h"
#include "kernels/cpu/kernel_args.h"
#include "kernels/cpu/packed_matrix.h"
#include "kernels/cpu/simd.h"

namespace xcomposer::cpu {

// Rows of x for integer_panels.h. A block of inputs of a row has one scale: its largest magnitude
// over the largest code (IntegerCodes). Codes are rounded to nearest. They lie in pieces of
// kIntegerDepth inputs and panels of args.panel_rows rows as (piece, panel, dword, row), for every
// word of the weight:
//   8 bits, a word of inputs 0 .. 3:  (x0, x2), (x1, x3)                  in 16 bits each,
//                                 or  (x0, x1, x2, x3)                    in 8 bits each
//   4 bits, a word of inputs 0 .. 7:  (x0, x2, x4, x6), (x1, x3, x5, x7)  in 8 bits each
// which is the order in which masks take codes out of a word, or in which it holds them.

/// Codes of one block of inputs for the rows of one panel.
struct RoundedBlock {
  const uint32_t* codes = nullptr;  ///< (2 * words, rows of a panel)
  const float* scales = nullptr;    ///< (row)
  const int32_t* sums = nullptr;    ///< (row) of the codes
  int64_t words = 0;                ///< of the weight
};

/// Codes of x in a dword.
template <typename S, Packing packing>
inline constexpr int64_t kDwordCodes = InputsOfWord(packing) / IntegerCodes<S, packing>::kDwords;

/// The block that begins at input k, a multiple of IntegerBlock, and has `inputs`.
template <typename S, Packing packing>
XCOMPOSER_INLINE RoundedBlock BlockOfX(const LinearKernelArgs& args, int64_t panel, int64_t k,
                                       int64_t inputs) {
  using Codes = IntegerCodes<S, packing>;
  constexpr int64_t kBlock = Codes::kBlock;
  constexpr int64_t kInputs = InputsOfWord(packing);
  const int64_t piece = k - k % kIntegerDepth;
  const int64_t left = args.depth - piece;
  const int64_t piece_depth = left < kIntegerDepth ? left : kIntegerDepth;
  // Inputs of all panels before this place, and of this panel.
  const int64_t before = piece * args.packed_rows + panel * args.panel_rows * piece_depth;
  const int64_t inputs_before = before + (k - piece) * args.panel_rows;
  const int64_t block = (k / kBlock * args.packed_rows) + panel * args.panel_rows;
  return {.codes = args.x_codes + inputs_before / kInputs * Codes::kDwords,
          .scales = args.x_scales + block,
          .sums = args.x_sums + block,
          .words = inputs / kInputs};
}

/// The largest magnitude of `count` (a multiple of 8) numbers; not a number where one of them is
/// none or infinite.
template <typename S>
inline float Magnitude(const float* x, int64_t count) {
  using F = typename S::F;
  F largest = S::Zero();
  F nothing = S::Zero();  // stays zero for finite numbers
  for (int64_t i = 0; i < count; i += S::kWidth) {
    const F value = count - i >= S::kWidth ? S::Load(x + i) : S::LoadN(x + i, count - i);
    largest = S::Max(largest, S::Max(value, S::Sub(S::Zero(), value)));
    nothing = S::Fma(value, S::Zero(), nothing);
  }
  return S::Largest(largest) + S::Sum(nothing);
}

/// One block of one row: its codes (room for a vector more), its scale and the sum of its codes.
template <typename S, Packing packing>
inline void RoundCodes(const float* x, int64_t count, uint32_t* codes, float* scale, int32_t* sum) {
  constexpr float kMost = IntegerCodes<S, packing>::kMost;
  // Below this the inverse of the scale is no float; such a block is worth nothing next to any
  // other number.
  constexpr float kLeast = 1e-30f;
  const float magnitude = Magnitude<S>(x, count);
  const float inverse = magnitude < kLeast ? 0.0f : kMost / magnitude;
  *scale = magnitude < kLeast ? 0.0f : magnitude / kMost;
  auto total = S::SetWords(0);
  for (int64_t i = 0; i < count; i += S::kWidth) {
    const auto value = count - i >= S::kWidth ? S::Load(x + i) : S::LoadN(x + i, count - i);
    const auto rounded = S::RoundToWords(S::Mul(value, S::Set(inverse)));
    S::StoreWords(codes + i, rounded);
    total = S::AddWords(total, rounded);
  }
  *sum = S::SumWords(total);
}

/// The same; writes its dwords, `stride` apart.
template <typename S, Packing packing>
inline void RoundBlock(const float* x, int64_t count, uint32_t* out, int64_t stride, float* scale,
                       int32_t* sum) {
  constexpr int64_t kBlock = IntegerCodes<S, packing>::kBlock;
  constexpr int64_t kCodes = kDwordCodes<S, packing>;
  uint32_t codes[kBlock + S::kCodeWords];
  uint32_t dwords[(kBlock + S::kCodeWords) / kCodes];
  RoundCodes<S, packing>(x, count, codes, scale, sum);
  for (int64_t i = 0; i < count; i += S::kCodeWords) {
    if constexpr (kCodes == 2) {
      S::StoreShorts(codes + i, dwords + i / kCodes);
    } else {
      S::template StoreBytes<packing == Packing::kInt4>(codes + i, dwords + i / kCodes);
    }
  }
  for (int64_t i = 0; i < count / kCodes; ++i) out[i * stride] = dwords[i];
}

/// Rounds inputs [k_begin, k_end), in whole pieces or to the last, of one panel of x. Rows past the
/// end are left as they are: nobody reads them.
template <typename S, Packing packing>
void LinearRoundX(const LinearKernelArgs& args, int64_t panel, int64_t k_begin, int64_t k_end) {
  constexpr int64_t kBlock = IntegerCodes<S, packing>::kBlock;
  const int64_t first = panel * args.panel_rows;
  const int64_t last = args.rows - first < args.panel_rows ? args.rows : first + args.panel_rows;
  for (int64_t k = k_begin; k < k_end; k += kBlock) {
    const int64_t count = args.depth - k < kBlock ? args.depth - k : kBlock;
    const RoundedBlock block = BlockOfX<S, packing>(args, panel, k, count);
    for (int64_t row = first; row < last; ++row) {
      const int64_t i = row - first;
      // The arrays are ours; RoundedBlock is the view of those who read them.
      RoundBlock<S, packing>(args.x + row * args.x_stride + k, count,
                             args.x_codes + (block.codes - args.x_codes) + i, args.panel_rows,
                             args.x_scales + (block.scales - args.x_scales) + i,
                             args.x_sums + (block.sums - args.x_sums) + i);
    }
  }
}

}  // namespace xcomposer::cpu
