#pragma once

#include "kernels/cpu/integer_codes.h"
#include "kernels/cpu/integer_x.h"
#include "kernels/cpu/kernel_args.h"
#include "kernels/cpu/linear_packed.h"
#include "kernels/cpu/packed_matrix.h"
#include "kernels/cpu/simd.h"

namespace xcomposer::cpu {

// A few rounded rows of x with a quantised weight, as decoding has them: the sums of
// integer_panels.h, bit for bit, arranged for the weight to be read as fast as memory gives it.
// Four rows of words are read side by side, so that they find room in the first cache however far
// apart they lie; whole lines of each; scales and zeros are asked for ahead like the words.
//
// What limits this is how often those four streams turn: at the end of the outputs the processor
// has to find out anew what comes next. So a range of outputs is a whole row of words where it can
// be, and in a block with more than four rows of words each stream keeps to its quarter of them,
// in which one row follows the other in memory.

/// Most rows of x. Measured: up to so many, long runs are worth taking codes out of their words for
/// each row anew.
template <typename S, Packing packing>
inline constexpr int kFewRows = S::kRoundsToBytes&& packing == Packing::kGptq8 ? 6 : 2;

/// Rows of words of a step.
inline constexpr int64_t kRowWords = 4;

/// Inputs of a step: of 4 bits a block, of 8 bits a part of one.
template <Packing packing>
inline constexpr int64_t kRowDepth = kRowWords* InputsOfWord(packing);

/// Vectors of outputs of a step: as many sums as there are registers for.
template <typename S, int kRows>
inline constexpr int kRowVectors = S::kWidth < 16 && kRows == 1 ? 4 : 2;

/// Between the outputs that are worked on and those that are asked for.
inline constexpr int64_t kRowAhead = 512;

/// Products of some rows of words, `stride` words apart, added to the sums. `x`: two dwords for
/// each row of words and row of x; those of the rows of words that are worked on are `x_stride`
/// apart.
template <typename S, Packing packing, int kRows, int kVectors>
XCOMPOSER_INLINE void AddRowWords(const uint32_t* words, int64_t stride, const uint32_t* x,
                                  int64_t x_stride, typename S::W (&sums)[kRows][kVectors]) {
  using W = typename S::W;
  using Arithmetic = IntegerCodes<S, packing>;
  static_assert(Arithmetic::kDwords == 2);
  XCOMPOSER_UNROLL
  for (int64_t word = 0; word < kRowWords; ++word) {
    W stored[kVectors];
    XCOMPOSER_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      stored[v] = S::LoadWords(words + word * stride + v * S::kWidth);
    }
    XCOMPOSER_UNROLL
    for (int t = 0; t < kRows; ++t) {
      const W row = S::SetWords(x[word * x_stride + t]);
      XCOMPOSER_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        sums[t][v] =
            S::KeepWords(Arithmetic::Dot(sums[t][v], Arithmetic::template Half<0>(stored[v]), row));
      }
    }
    XCOMPOSER_UNROLL
    for (int t = 0; t < kRows; ++t) {
      const W row = S::SetWords(x[word * x_stride + kRows + t]);
      XCOMPOSER_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        sums[t][v] =
            S::KeepWords(Arithmetic::Dot(sums[t][v], Arithmetic::template Half<1>(stored[v]), row));
      }
    }
  }
}

/// A step of a block of inputs: the words `step`, `steps` + step, 2 * steps + step, ... of it.
struct RowStep {
  int64_t k = 0;       ///< the block's first input
  int64_t inputs = 0;  ///< of the block
  int64_t step = 0;
  int64_t steps = 0;
};

/// One step for `count` outputs from n on, in whole vectors. The first and the last step of a block
/// begin its sums and add them to what is there; in between they are kept.
template <typename S, Packing packing, int kRows, bool kFirst, bool kLast>
inline void RunStep(const LinearKernelArgs& args, const RowStep& at, int64_t n, int64_t count,
                    const RowSums& to) {
  using F = typename S::F;
  using W = typename S::W;
  constexpr int kVectors = kRowVectors<S, kRows>;
  constexpr int64_t kOutputs = kVectors * S::kWidth;
  constexpr int64_t kInputs = InputsOfWord(packing);
  const RoundedBlock x = BlockOfX<S, packing>(args, 0, at.k, at.inputs);
  const int64_t g = at.k / args.group;
  const int64_t stride = at.steps * args.outputs;
  const auto* words =
      static_cast<const uint32_t*>(args.weight) + (at.k / kInputs + at.step) * args.outputs + n;
  const auto* scales = static_cast<const uint16_t*>(args.scales) + g * args.outputs + n;
  const uint32_t* zeros = args.zeros + (g * args.outputs + n) / kInputs;
  // After these outputs come the same ones of the next step or block, if there are any.
  const int64_t next = at.k + at.inputs;
  const int64_t next_words = kLast ? x.words - at.step : 1;
  const int64_t turn = kLast && next >= args.depth ? -count : next_words * args.outputs - count;
  const int64_t turn_scales =
      next < args.depth && next / args.group != g ? args.outputs - count : -count;
  for (int64_t i = 0; i < count; i += kOutputs) {
    const bool turns = i + kRowAhead >= count;
    const int64_t ahead = i + kRowAhead + (turns ? turn : 0);
    XCOMPOSER_UNROLL
    for (int64_t word = 0; word < kRowWords; ++word) {
      for (int64_t line = 0; line < kOutputs; line += 16) {
        S::Prefetch(words + word * stride + ahead + line);
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
    AddRowWords<S, packing, kRows, kVectors>(words + i, stride, x.codes + 2 * at.step * kRows,
                                             2 * at.steps * kRows, sums);
    if constexpr (!kLast) {
      XCOMPOSER_UNROLL
      for (int t = 0; t < kRows; ++t) {
        XCOMPOSER_UNROLL
        for (int v = 0; v < kVectors; ++v) {
          S::StoreWords(to.partial + t * to.partial_stride + i + v * S::kWidth, sums[t][v]);
        }
      }
    } else {
      const int64_t scales_ahead = i + kRowAhead + (turns ? turn_scales : 0);
      S::Prefetch(scales + scales_ahead);
      S::Prefetch(zeros + scales_ahead / kInputs);
      XCOMPOSER_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        const int64_t place = i + v * S::kWidth;
        const W zero = ZeroWordsOf<S, packing>(args, g, n + place, S::kWidth);
        const F scale = S::template LoadAs<Format::kFloat16>(scales + place);
        XCOMPOSER_UNROLL
        for (int t = 0; t < kRows; ++t) {
          AddBlock<S, packing>(sums[t][v], zero, scale, x.sums[t], x.scales[t],
                               to.sums + t * to.stride + place);
        }
      }
    }
  }
}

/// The outputs of the block with inputs [begin, end), both in whole blocks or at the weight's end.
template <typename S, Packing packing, int kRows>
inline void RowRange(const LinearKernelArgs& args, const LinearBlock& block, int64_t begin,
                     int64_t end, const RowSums& to) {
  constexpr int64_t kBlock = IntegerCodes<S, packing>::kBlock;
  static_assert(kIntegerSpan % kBlock == 0 && kBlock % kRowDepth<packing> == 0);
  const int64_t count = block.n_end - block.n_begin;
  for (int64_t k = begin; k < end; k += kBlock) {
    const int64_t inputs = end - k < kBlock ? end - k : kBlock;
    const int64_t steps = inputs / kRowDepth<packing>;
    for (int64_t step = 0; step < steps; ++step) {
      const bool last = step == steps - 1;
      const auto run = step == 0 ? (last ? &RunStep<S, packing, kRows, true, true>
                                         : &RunStep<S, packing, kRows, true, false>)
                                 : (last ? &RunStep<S, packing, kRows, false, true>
                                         : &RunStep<S, packing, kRows, false, false>);
      run(args, {.k = k, .inputs = inputs, .step = step, .steps = steps}, block.n_begin, count, to);
    }
  }
}

}  // namespace xcomposer::cpu
