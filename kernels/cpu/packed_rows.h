#pragma once

#include "kernels/cpu/kernel_args.h"
#include "kernels/cpu/linear_packed.h"
#include "kernels/cpu/linear_panels.h"
#include "kernels/cpu/packed_matrix.h"
#include "kernels/cpu/simd.h"

namespace xcomposer::cpu {

// Few rows of float32 x, as decoding has them, with a quantised weight in any of the packings. The
// weight is read once, several rows of its words side by side, and a code costs three instructions:
// it is cut out of its word where it lies, which leaves code * 2^place, exact in float32; that is
// multiplied, and the power of two is in x (GPTQ: the lanes are outputs, the places inputs) or is
// taken away from the sum (AWQ: the lanes are words, the places outputs). Zeros are taken away once
// for each group of inputs: W x = scale * (codes x - zero * sum of x). Rounding errors are those of
// codes and zeros, not of their difference (docs/quantisation.md).
//
// Sums run over the inputs of a group in ascending order, the groups of a span, then the spans;
// they do not depend on which rows or outputs share a loop.

/// Rows of words of a step, and so its streams.
template <Packing packing>
inline constexpr int64_t kStepWords = packing == Packing::kAwq4 ? 16 : 4;

/// Inputs that a row of words holds.
template <Packing packing>
inline constexpr int64_t kWordInputs = packing == Packing::kAwq4 ? 1 : 32 / BitsOf(packing);

/// Codes in a word.
template <Packing packing>
inline constexpr int kFields = 32 / BitsOf(packing);

/// What field i of a word has to be multiplied with, as S::PlacedField gives it.
template <typename S, Packing packing>
constexpr float PlaceInverse(int i) {
  if (i == kFields<packing> - 1) return 1.0f;  // that one is shifted down
  float inverse = 1.0f;
  for (int bit = 0; bit < i * BitsOf(packing); ++bit) inverse *= 0.5f;
  return inverse;
}

/// Most rows of x that share a tile.
inline constexpr int kTileRows = 4;

/// Rows of the next smaller tile. Measured: with AVX2 the sums of three are too few to be worked on
/// without waiting for one another.
template <typename S, int kRows>
inline constexpr int kFewerRows = S::kWidth < 16 ? kRows / 2 : kRows - 1;

/// Sums of a tile: as many as leave registers for codes and x.
template <typename S>
inline constexpr int kTileSums = S::kWidth < 16 ? 8 : 16;

/// GPTQ: vectors of outputs of a tile, with two sums each for every row of x.
template <typename S, int kRows>
inline constexpr int kTileVectors = kTileSums<S> / kRows >= 8   ? 4
                                    : kTileSums<S> / kRows >= 4 ? 2
                                                                : 1;

/// AWQ: fields of a tile, with one sum each for every row of x.
template <typename S, int kRows>
inline constexpr int kTileFields = 2 * kTileVectors<S, kRows>;

/// Words between what is worked on and what is asked for. Measured: of AWQ's sixteen streams more
/// than that finds no room.
template <Packing packing>
inline constexpr int64_t kPackedAhead = packing == Packing::kAwq4 ? 128 : 512;

/// Inputs [k, k + depth) of group `group`, some rows of x from `row` on.
struct PackedStep {
  int64_t k;
  int64_t depth;
  int64_t group;
  int64_t row;
  bool first;  ///< of the group, or of the span
  bool last;
};

/// y += scale * (sum - zero * sum of x) for one vector of outputs and one row.
template <typename S>
XCOMPOSER_INLINE void AddGroup(typename S::F scale, typename S::F zeros, typename S::F sum,
                               float x_sum, float* y) {
  const auto value = S::Fma(zeros, S::Set(-x_sum), sum);
  S::Store(y, S::Fma(scale, value, S::Load(y)));
}

/// GPTQ: kVectors vectors of outputs, the first of them `n` of the weight and `i` of the range.
template <typename S, Packing packing, int kRows, int kVectors>
XCOMPOSER_INLINE void GptqTile(const LinearKernelArgs& args, const PackedStep& step, int64_t n,
                               int64_t i, int64_t lanes, const RowSums& to) {
  using F = typename S::F;
  using W = typename S::W;
  constexpr int kCount = kFields<packing>;
  const auto* words =
      static_cast<const uint32_t*>(args.weight) + step.k / kCount * args.outputs + n;
  const float* x = args.packed_x + step.row * args.depth + step.k;
  float* partial = to.partial_sums + step.row * to.partial_stride + i;
  // Two sums each, of even and odd inputs: the chain of additions would be waited for.
  F sums[2][kRows][kVectors];
  XCOMPOSER_UNROLL
  for (int t = 0; t < kRows; ++t) {
    XCOMPOSER_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      sums[0][t][v] =
          step.first ? S::Zero() : S::Load(partial + t * to.partial_stride + v * S::kWidth);
      sums[1][t][v] = S::Zero();
    }
  }
  for (int64_t k = 0; k < step.depth; k += kCount) {
    W stored[kVectors];
    XCOMPOSER_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      stored[v] = lanes >= S::kWidth ? S::LoadWords(words + v * S::kWidth)
                                     : S::LoadWordsN(words + v * S::kWidth, lanes);
    }
    XCOMPOSER_UNROLL
    for (int f = 0; f < kCount; ++f) {
      F column[kRows];
      XCOMPOSER_UNROLL
      for (int t = 0; t < kRows; ++t) column[t] = S::Set(x[t * args.depth + k + f]);
      XCOMPOSER_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        const F code = S::template PlacedField<BitsOf(packing)>(stored[v], f);
        XCOMPOSER_UNROLL
        for (int t = 0; t < kRows; ++t) {
          sums[f % 2][t][v] = S::Fma(code, column[t], sums[f % 2][t][v]);
        }
      }
    }
    words += args.outputs;
  }
  XCOMPOSER_UNROLL
  for (int v = 0; v < kVectors; ++v) {
    if (!step.last) {
      XCOMPOSER_UNROLL
      for (int t = 0; t < kRows; ++t) {
        S::Store(partial + t * to.partial_stride + v * S::kWidth,
                 S::Add(sums[0][t][v], sums[1][t][v]));
      }
      continue;
    }
    const F zeros = ZerosOf<S, packing>(args, step.group, n + v * S::kWidth, lanes);
    const F scale = ScalesOf<S>(args, step.group, n + v * S::kWidth, lanes);
    XCOMPOSER_UNROLL
    for (int t = 0; t < kRows; ++t) {
      AddGroup<S>(scale, zeros, S::Add(sums[0][t][v], sums[1][t][v]), to.x_sums[step.row + t],
                  to.sums + (step.row + t) * to.stride + i + v * S::kWidth);
    }
  }
}

/// GPTQ: one step of a range of outputs.
template <typename S, Packing packing, int kRows>
inline void PackedRange(const LinearKernelArgs& args, const LinearBlock& block,
                        const PackedStep& step, const RowSums& to) {
  constexpr int kVectors = kTileVectors<S, kRows>;
  constexpr int64_t kOutputs = kVectors * S::kWidth;
  constexpr int64_t kAhead = kPackedAhead<packing>;
  const int64_t count = block.n_end - block.n_begin;
  const int64_t rows = step.depth / kFields<packing>;
  const auto* words = static_cast<const uint32_t*>(args.weight) +
                      step.k / kFields<packing> * args.outputs + block.n_begin;
  // After these outputs come the same ones of the next inputs, if there are any.
  const int64_t turn = step.k + step.depth < args.depth ? rows * args.outputs - count : -count;
  int64_t i = 0;
  for (; i + kOutputs <= count; i += kOutputs) {
    if (step.row == 0 && i % 16 == 0) {
      const int64_t ahead = i + kAhead + (i + kAhead >= count ? turn : 0);
      for (int64_t word = 0; word < rows; ++word) {
        for (int64_t line = 0; line < kOutputs; line += 16) {
          S::Prefetch(words + word * args.outputs + ahead + line);
        }
      }
    }
    GptqTile<S, packing, kRows, kVectors>(args, step, block.n_begin + i, i, S::kWidth, to);
  }
  for (; i < count; i += S::kWidth) {
    const int64_t lanes = count - i < S::kWidth ? count - i : S::kWidth;
    GptqTile<S, packing, kRows, 1>(args, step, block.n_begin + i, i, lanes, to);
  }
}

/// AWQ: `lanes` words of the weight, the first of them `c` of a row and `i` of the range; of their
/// fields, kTileFields from kFirst on. Sums lie as (vector of words, field, word) meanwhile.
template <typename S, int kRows, int kFirst>
XCOMPOSER_INLINE void AwqTile(const LinearKernelArgs& args, const PackedStep& step, int64_t c,
                              int64_t i, int64_t lanes, const RowSums& to) {
  using F = typename S::F;
  using W = typename S::W;
  constexpr int kCount = kTileFields<S, kRows>;
  const int64_t stride = args.outputs / 8;
  const auto* words = static_cast<const uint32_t*>(args.weight) + step.k * stride + c;
  const float* x = args.x + step.row * args.x_stride + step.k;
  float* partial =
      to.partial_sums + step.row * to.partial_stride + i * 8 + int64_t{kFirst} * S::kWidth;
  F sums[kCount][kRows];
  XCOMPOSER_UNROLL
  for (int f = 0; f < kCount; ++f) {
    XCOMPOSER_UNROLL
    for (int t = 0; t < kRows; ++t) {
      sums[f][t] =
          step.first ? S::Zero() : S::Load(partial + t * to.partial_stride + f * S::kWidth);
    }
  }
  for (int64_t k = 0; k < step.depth; ++k) {
    const W stored = lanes >= S::kWidth ? S::LoadWords(words) : S::LoadWordsN(words, lanes);
    F column[kRows];
    XCOMPOSER_UNROLL
    for (int t = 0; t < kRows; ++t) column[t] = S::Set(x[t * args.x_stride + k]);
    XCOMPOSER_UNROLL
    for (int f = 0; f < kCount; ++f) {
      const F code = S::template PlacedField<4>(stored, kFirst + f);
      XCOMPOSER_UNROLL
      for (int t = 0; t < kRows; ++t) sums[f][t] = S::Fma(code, column[t], sums[f][t]);
    }
    words += stride;
  }
  XCOMPOSER_UNROLL
  for (int f = 0; f < kCount; ++f) {
    XCOMPOSER_UNROLL
    for (int t = 0; t < kRows; ++t) {
      S::Store(partial + t * to.partial_stride + f * S::kWidth, sums[f][t]);
    }
  }
}

/// AWQ: all fields of a vector of words.
template <typename S, int kRows, int kFirst = 0>
XCOMPOSER_INLINE void AwqWords(const LinearKernelArgs& args, const PackedStep& step, int64_t c,
                               int64_t i, int64_t lanes, const RowSums& to) {
  AwqTile<S, kRows, kFirst>(args, step, c, i, lanes, to);
  constexpr int kNext = kFirst + kTileFields<S, kRows>;
  if constexpr (kNext < 8) {
    AwqWords<S, kRows, kNext>(args, step, c, i, lanes, to);
  }
}

/// AWQ: adds the sums of a vector of words to y when a group is done.
template <typename S, int kRows>
inline void FinishAwq(const LinearKernelArgs& args, const PackedStep& step, int64_t c, int64_t i,
                      int64_t lanes, const RowSums& to) {
  using F = typename S::F;
  constexpr auto kInverse = [] {
    struct Table {
      float of[16];
    } table{};
    for (int o = 0; o < 16; ++o) table.of[o] = PlaceInverse<S, Packing::kAwq4>(kAwqNibble[o % 8]);
    return table;
  }();
  for (int t = 0; t < kRows; ++t) {
    const float* partial = to.partial_sums + (step.row + t) * to.partial_stride + i * 8;
    const float* fields[8];
    for (int o = 0; o < 8; ++o) fields[o] = partial + kAwqNibble[o] * S::kWidth;
    float outputs[8 * S::kWidth];
    S::TurnEights(fields, outputs);
    float* y = to.sums + (step.row + t) * to.stride + i * 8;
    for (int64_t o = 0; o < lanes * 8; o += S::kWidth) {
      const int64_t left = lanes * 8 - o < S::kWidth ? lanes * 8 - o : S::kWidth;
      const F sum = S::Mul(S::Load(kInverse.of + o % 8), S::Load(outputs + o));
      AddGroup<S>(ScalesOf<S>(args, step.group, c * 8 + o, left),
                  ZerosOf<S, Packing::kAwq4>(args, step.group, c * 8 + o, left), sum,
                  to.x_sums[step.row + t], y + o);
    }
  }
}

/// AWQ: one step of a range of outputs.
template <typename S, int kRows>
inline void AwqRange(const LinearKernelArgs& args, const LinearBlock& block, const PackedStep& step,
                     const RowSums& to) {
  constexpr int64_t kAhead = kPackedAhead<Packing::kAwq4>;
  const int64_t stride = args.outputs / 8;
  const int64_t begin = block.n_begin / 8;
  const int64_t count = block.n_end / 8 - begin;
  const auto* words = static_cast<const uint32_t*>(args.weight) + step.k * stride + begin;
  const int64_t turn = step.k + step.depth < args.depth ? step.depth * stride - count : -count;
  for (int64_t i = 0; i < count; i += S::kWidth) {
    if (step.row == 0 && i % 16 == 0) {
      const int64_t ahead = i + kAhead + (i + kAhead >= count ? turn : 0);
      for (int64_t k = 0; k < step.depth; ++k) S::Prefetch(words + k * stride + ahead);
    }
    const int64_t lanes = count - i < S::kWidth ? count - i : S::kWidth;
    AwqWords<S, kRows>(args, step, begin + i, i, lanes, to);
    if (step.last) FinishAwq<S, kRows>(args, step, begin + i, i, lanes, to);
  }
}

/// The rows of x from step.row on, kRows at a time, and then what is left.
template <typename S, Packing packing, int kRows>
inline void PackedStepRows(const LinearKernelArgs& args, const LinearBlock& block, PackedStep step,
                           const RowSums& to) {
  for (; step.row + kRows <= args.rows; step.row += kRows) {
    if constexpr (packing == Packing::kAwq4) {
      AwqRange<S, kRows>(args, block, step, to);
    } else {
      PackedRange<S, packing, kRows>(args, block, step, to);
    }
  }
  if constexpr (kRows > 1) PackedStepRows<S, packing, kFewerRows<S, kRows>>(args, block, step, to);
}

/// Sum of `count` numbers, a multiple of 8.
template <typename S>
inline float SumOf(const float* x, int64_t count) {
  typename S::F sum = S::Zero();
  for (int64_t i = 0; i < count; i += S::kWidth) {
    sum = S::Add(sum, count - i >= S::kWidth ? S::Load(x + i) : S::LoadN(x + i, count - i));
  }
  return S::Sum(sum);
}

/// Up to kMostPackedRows rows of x with the weight's outputs [n_begin, n_end) and one span of
/// inputs, args.span of them or what is left. Outputs are a multiple of kPackedGrain, but for the
/// last. Writes whole vectors.
template <typename S, Packing packing>
void LinearPackedRows(const LinearKernelArgs& args, const LinearBlock& block, int64_t span,
                      const RowSums& to) {
  constexpr int64_t kDepth = kStepWords<packing> * kWordInputs<packing>;
  const int64_t width = block.n_end - block.n_begin;
  for (int64_t t = 0; t < args.rows; ++t) {
    for (int64_t i = 0; i < width; i += S::kWidth) {
      S::Store(to.sums + t * to.stride + i, S::Zero());
    }
  }
  const int64_t end =
      args.depth - span * args.span < args.span ? args.depth : (span + 1) * args.span;
  for (int64_t k = span * args.span; k < end;) {
    const int64_t g = k / args.group;
    const int64_t group_end = (g + 1) * args.group < end ? (g + 1) * args.group : end;
    RowSums sums = to;
    float x_sums[kMostPackedRows];
    for (int64_t t = 0; t < args.rows; ++t) {
      x_sums[t] = SumOf<S>(args.x + t * args.x_stride + k, group_end - k);
    }
    sums.x_sums = x_sums;
    PackedStep step{.k = k, .depth = 0, .group = g, .row = 0, .first = true, .last = false};
    for (; step.k < group_end; step.k += step.depth) {
      step.depth = group_end - step.k < kDepth ? group_end - step.k : kDepth;
      step.last = step.k + step.depth == group_end;
      PackedStepRows<S, packing, kTileRows>(args, block, step, sums);
      step.first = false;
    }
    k = group_end;
  }
}

template <typename S>
inline void AddSums(float* to, const float* sums, int64_t count) {
  for (int64_t i = 0; i < count; i += S::kWidth) {
    S::Store(to + i, S::Add(S::Load(to + i), S::Load(sums + i)));
  }
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
    FinishPanel<S>(args, {.row_begin = t, .row_end = t + 1, .n_begin = n_begin, .n_end = n_end},
                   row);
  }
}

/// Rows [begin, end) of x, each number times the place of its code (PlaceInverse), for GPTQ.
template <typename S, Packing packing>
void PackPlaces(const LinearKernelArgs& args, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const float* x = args.x + row * args.x_stride;
    float* out = args.packed_x + row * args.depth;
    for (int64_t k = 0; k < args.depth; k += kFields<packing>) {
      for (int f = 0; f < kFields<packing>; ++f) {
        out[k + f] = x[k + f] * PlaceInverse<S, packing>(f);
      }
    }
  }
}

}  // namespace xcomposer::cpu
