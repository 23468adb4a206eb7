#pragma once

#include "kernels/cpu/integer_codes.h"
#include "kernels/cpu/integer_x.h"
#include "kernels/cpu/kernel_args.h"
#include "kernels/cpu/linear_packed.h"
#include "kernels/cpu/packed_matrix.h"
#include "kernels/cpu/simd.h"

namespace xcomposer::cpu {

// One rounded row of x with a quantised weight, as decoding has it: the sums of integer_panels.h,
// bit for bit, arranged for the weight to be read as fast as memory gives it. Four rows of words
// are read side by side, so that they find room in the first cache however far apart they lie; two
// lines of each; scales and zeros are asked for ahead like the words.

/// Rows of words of a step.
inline constexpr int64_t kRowWords = 4;

/// Inputs of a step: of 4 bits a block, of 8 bits a part of one.
template <Packing packing>
inline constexpr int64_t kRowDepth = kRowWords* InputsOfWord(packing);

/// Outputs of a step.
template <typename S>
inline constexpr int64_t kRowOutputs = S::kWidth == 4 ? 16 : 32;

/// Between the outputs that are worked on and those that are asked for.
inline constexpr int64_t kRowAhead = 128;

/// Products of kRowDepth inputs added to the sums of some vectors of outputs. `x`: two dwords for
/// each row of words.
template <typename S, Packing packing, int kVectors>
XCOMPOSER_INLINE void AddRowWords(const uint32_t* words, int64_t stride, const uint32_t* x,
                                  typename S::W (&sums)[kVectors]) {
  using W = typename S::W;
  using Arithmetic = IntegerCodes<S, packing>;
  XCOMPOSER_UNROLL
  for (int64_t word = 0; word < kRowWords; ++word) {
    const W even = S::SetWords(x[2 * word]);
    const W odd = S::SetWords(x[2 * word + 1]);
    XCOMPOSER_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      const W stored = S::LoadWords(words + word * stride + v * S::kWidth);
      sums[v] = Arithmetic::Dot(sums[v], Arithmetic::template Half<0>(stored), even);
      sums[v] = Arithmetic::Dot(sums[v], Arithmetic::template Half<1>(stored), odd);
    }
  }
}

/// Inputs [k, k + kRowDepth) for `count` outputs from n on, a multiple of kRowOutputs. The first
/// and the last inputs of a block begin its sums and add them to y; in between they stay in
/// `partial`.
template <typename S, Packing packing, bool kFirst, bool kLast>
inline void RowSteps(const LinearKernelArgs& args, int64_t k, int64_t n, int64_t count, float* y,
                     uint32_t* partial) {
  using F = typename S::F;
  using W = typename S::W;
  constexpr int kVectors = kRowOutputs<S> / S::kWidth;
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
  for (int64_t i = 0; i < count; i += kRowOutputs<S>) {
    const bool turns = i + kRowAhead >= count;
    const int64_t ahead = i + kRowAhead + (turns ? turn : 0);
    XCOMPOSER_UNROLL
    for (int64_t word = 0; word < kRowWords; ++word) {
      for (int64_t line = 0; line < kRowOutputs<S>; line += 16) {
        S::Prefetch(words + word * args.outputs + ahead + line);
      }
    }
    W sums[kVectors];
    XCOMPOSER_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      sums[v] = kFirst ? S::SetWords(0) : S::LoadWords(partial + i + v * S::kWidth);
    }
    AddRowWords<S, packing, kVectors>(words + i, args.outputs, x.codes, sums);
    if constexpr (!kLast) {
      XCOMPOSER_UNROLL
      for (int v = 0; v < kVectors; ++v) S::StoreWords(partial + i + v * S::kWidth, sums[v]);
    } else {
      const int64_t scales_ahead = i + kRowAhead + (turns ? turn_scales : 0);
      S::Prefetch(scales + scales_ahead);
      S::Prefetch(zeros + scales_ahead / kInputs);
      const W x_sum = S::SetWords(static_cast<uint32_t>(x.sums[0]));
      XCOMPOSER_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        const int64_t place = i + v * S::kWidth;
        const W zero = ZeroWordsOf<S, packing>(args, g, n + place, S::kWidth);
        const W sum = IntegerCodes<S, packing>::Sum(sums[v]);
        const F total = S::FromWords(S::SubProduct(sum, zero, x_sum));
        const F value = S::Mul(S::template LoadAs<Format::kFloat16>(scales + place), total);
        S::Store(y + place, S::Fma(S::Set(x.scales[0]), value, S::Load(y + place)));
      }
    }
  }
}

}  // namespace xcomposer::cpu
