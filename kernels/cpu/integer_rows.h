#pragma once

#include "kernels/cpu/integer_codes.h"
#include "kernels/cpu/integer_x.h"
#include "kernels/cpu/kernel_args.h"
#include "kernels/cpu/linear_packed.h"
#include "kernels/cpu/packed_matrix.h"
#include "kernels/cpu/simd.h"

namespace xcomposer::cpu {

// One or two rounded rows of x with a quantised weight, as decoding has them: the sums of
// integer_panels.h, bit for bit, arranged for the weight to be read as fast as memory gives it.
// Four rows of words are read side by side, so that they find room in the first cache however far
// apart they lie; whole lines of each; scales and zeros are asked for ahead like the words.

/// Rows of words of a step.
inline constexpr int64_t kRowWords = 4;

/// Inputs of a step: of 4 bits a block, of 8 bits a part of one.
template <Packing packing>
inline constexpr int64_t kRowDepth = kRowWords* InputsOfWord(packing);

/// Vectors of outputs of a step: as many sums as there are registers for.
template <typename S, int kRows>
inline constexpr int kRowVectors = S::kWidth < 16 && kRows == 1 ? 4 : 2;

/// Between the outputs that are worked on and those that are asked for.
template <typename S>
inline constexpr int64_t kRowAhead = S::kWidth < 16 ? 128 : 512;

/// Products of kRowDepth inputs added to the sums. `x`: two dwords for each row of words and row.
template <typename S, Packing packing, int kRows, int kVectors>
XCOMPOSER_INLINE void AddRowWords(const uint32_t* words, int64_t stride, const uint32_t* x,
                                  typename S::W (&sums)[kRows][kVectors]) {
  using W = typename S::W;
  using Arithmetic = IntegerCodes<S, packing>;
  XCOMPOSER_UNROLL
  for (int64_t word = 0; word < kRowWords; ++word) {
    W stored[kVectors];
    XCOMPOSER_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      stored[v] = S::LoadWords(words + word * stride + v * S::kWidth);
    }
    XCOMPOSER_UNROLL
    for (int t = 0; t < kRows; ++t) {
      const W row = S::SetWords(x[2 * word * kRows + t]);
      XCOMPOSER_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        sums[t][v] =
            S::KeepWords(Arithmetic::Dot(sums[t][v], Arithmetic::template Half<0>(stored[v]), row));
      }
    }
    XCOMPOSER_UNROLL
    for (int t = 0; t < kRows; ++t) {
      const W row = S::SetWords(x[(2 * word + 1) * kRows + t]);
      XCOMPOSER_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        sums[t][v] =
            S::KeepWords(Arithmetic::Dot(sums[t][v], Arithmetic::template Half<1>(stored[v]), row));
      }
    }
  }
}

/// Inputs [k, k + kRowDepth) for `count` outputs from n on, in whole steps. The first and the last
/// inputs of a block begin its sums and add them to what is there; in between they are kept.
template <typename S, Packing packing, int kRows, bool kFirst, bool kLast>
inline void RowSteps(const LinearKernelArgs& args, int64_t k, int64_t n, int64_t count,
                     const RowSums& to) {
  using F = typename S::F;
  using W = typename S::W;
  constexpr int kVectors = kRowVectors<S, kRows>;
  constexpr int64_t kOutputs = kVectors * S::kWidth;
  constexpr int64_t kInputs = InputsOfWord(packing);
  const RoundedBlock x = BlockOfX<packing>(args, 0, k, kRowDepth<packing>);
  const int64_t g = k / args.group;
  const auto* words = static_cast<const uint32_t*>(args.weight) + k / kInputs * args.outputs + n;
  const auto* scales = static_cast<const uint16_t*>(args.scales) + g * args.outputs + n;
  const uint32_t* zeros = args.zeros + (g * args.outputs + n) / kInputs;
  // After these outputs come the same ones of the next inputs, if there are any.
  const int64_t next = k + kRowDepth<packing>;
  const int64_t turn = next < args.depth ? kRowWords * args.outputs - count : -count;
  const int64_t turn_scales =
      next < args.depth && next / args.group != g ? args.outputs - count : -count;
  for (int64_t i = 0; i < count; i += kOutputs) {
    const bool turns = i + kRowAhead<S> >= count;
    const int64_t ahead = i + kRowAhead<S> + (turns ? turn : 0);
    XCOMPOSER_UNROLL
    for (int64_t word = 0; word < kRowWords; ++word) {
      for (int64_t line = 0; line < kOutputs; line += 16) {
        S::Prefetch(words + word * args.outputs + ahead + line);
      }
    }
    W sums[kRows][kVectors];
    XCOMPOSER_UNROLL
    for (int t = 0; t < kRows; ++t) {
      XCOMPOSER_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        const uint32_t* kept = to.partial + t * to.partial_stride + i + v * S::kWidth;
        sums[t][v] = kFirst ? S::SetWords(0) : S::LoadWords(kept);
      }
    }
    AddRowWords<S, packing, kRows, kVectors>(words + i, args.outputs, x.codes, sums);
    if constexpr (!kLast) {
      XCOMPOSER_UNROLL
      for (int t = 0; t < kRows; ++t) {
        XCOMPOSER_UNROLL
        for (int v = 0; v < kVectors; ++v) {
          S::StoreWords(to.partial + t * to.partial_stride + i + v * S::kWidth, sums[t][v]);
        }
      }
    } else {
      const int64_t scales_ahead = i + kRowAhead<S> + (turns ? turn_scales : 0);
      S::Prefetch(scales + scales_ahead);
      S::Prefetch(zeros + scales_ahead / kInputs);
      XCOMPOSER_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        const int64_t place = i + v * S::kWidth;
        const W zero = ZeroWordsOf<S, packing>(args, g, n + place, S::kWidth);
        const F scale = S::template LoadAs<Format::kFloat16>(scales + place);
        XCOMPOSER_UNROLL
        for (int t = 0; t < kRows; ++t) {
          const W sum = IntegerCodes<S, packing>::Sum(sums[t][v]);
          const W x_sum = S::SetWords(static_cast<uint32_t>(x.sums[t]));
          const F value = S::Mul(scale, S::FromWords(S::SubProduct(sum, zero, x_sum)));
          float* y = to.sums + t * to.stride + place;
          S::Store(y, S::Fma(S::Set(x.scales[t]), value, S::Load(y)));
        }
      }
    }
  }
}

/// The outputs of the block with inputs [begin, end), both in whole steps.
template <typename S, Packing packing, int kRows>
inline void RowRange(const LinearKernelArgs& args, const LinearBlock& block, int64_t begin,
                     int64_t end, const RowSums& to) {
  constexpr int64_t kDepth = kRowDepth<packing>;
  constexpr int64_t kBlock = IntegerBlock(packing);
  for (int64_t k = begin; k < end; k += kDepth) {
    const bool first = k % kBlock == 0;
    const bool last = (k + kDepth) % kBlock == 0 || k + kDepth == args.depth;
    const auto run = first ? (last ? &RowSteps<S, packing, kRows, true, true>
                                   : &RowSteps<S, packing, kRows, true, false>)
                           : (last ? &RowSteps<S, packing, kRows, false, true>
                                   : &RowSteps<S, packing, kRows, false, false>);
    run(args, k, block.n_begin, block.n_end - block.n_begin, to);
  }
}

}  // namespace xcomposer::cpu
