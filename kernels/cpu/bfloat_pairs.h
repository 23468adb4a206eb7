#pragma once

#include "kernels/cpu/linear_panels.h"
#include "kernels/cpu/simd.h"

namespace xcomposer::cpu {

// Many rows of x, rounded to bfloat16, with a weight that bfloat16 holds (bfloat16 as it is stored,
// or the integers of an official packing): two inputs lie in a word, and one instruction adds the
// products of both to a float32 sum. Products are exact in float32; a sum has
// the roundings of one over as many inputs one by one, pairs ascending.
//
// A pair takes the place of a number in linear_panels.h and tile.h: rows of a bfloat16 weight are
// read as rows of half as many words, which are turned around and not widened. S is one of simd.h
// but for
//
//   Fma(a, b, c)           c + a0 b0 + a1 b1 of two pairs in each word
//   kMultipliesPairs       true
// and adds, with each number the nearest bfloat16
//   Pairs(first, second)   2 * kWidth floats as kWidth words, in their order
//   PairLanes(even, odd)   word i is the pair of even[i] and odd[i]

/// The same product with pairs as its numbers.
XCOMPOSER_INLINE LinearKernelArgs OfPairs(LinearKernelArgs args) {
  args.depth /= 2;
  args.weight_stride /= 2;
  args.group /= 2;
  return args;
}

/// `count` numbers of x as pairs, with a zero where one is left over; up to a whole vector is
/// written.
template <typename S>
inline void RoundToPairs(const float* x, int64_t count, float* out) {
  constexpr int64_t kStep = 2 * S::kWidth;
  for (; count >= kStep; count -= kStep) {
    S::Store(out, S::Pairs(S::Load(x), S::Load(x + S::kWidth)));
    x += kStep;
    out += S::kWidth;
  }
  if (count >= S::kWidth) {
    S::Store(out, S::Pairs(S::Load(x), S::LoadN(x + S::kWidth, count - S::kWidth)));
  } else if (count > 0) {
    S::Store(out, S::Pairs(S::LoadN(x, count), S::Zero()));
  }
}

template <typename S>
void PackPairsOfX(const LinearKernelArgs& args, int64_t panel_begin, int64_t panel_end) {
  static_assert(kDepth % S::kWidth == 0);
  const LinearKernelArgs pairs = OfPairs(args);
  float rounded[S::kRows * kDepth];
  for (int64_t row = panel_begin * S::kRows; row < panel_end * S::kRows; row += S::kRows) {
    const int64_t rows = args.rows - row < S::kRows ? args.rows - row : S::kRows;
    for (int64_t k = 0; k < pairs.depth; k += kDepth) {
      const int64_t depth = pairs.depth - k < kDepth ? pairs.depth - k : kDepth;
      for (int64_t i = 0; i < rows; ++i) {
        RoundToPairs<S>(args.x + (row + i) * args.x_stride + 2 * k, 2 * depth,
                        rounded + i * kDepth);
      }
      PackPanel<S>(rounded, kDepth, 0, rows, depth, PackedPlace<S>(pairs, row, k));
    }
  }
}

/// LinearPanels; args.depth, args.weight_stride and args.group are even.
template <typename S, typename Weight>
void LinearPairs(const LinearKernelArgs& args, const LinearBlock& block, float* memory) {
  LinearPanels<S, Weight>(OfPairs(args), block, memory);
}

}  // namespace xcomposer::cpu
