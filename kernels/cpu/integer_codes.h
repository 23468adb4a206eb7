#pragma once

#include "kernels/cpu/packed_matrix.h"
#include "kernels/cpu/simd.h"

namespace xcomposer::cpu {

/// What differs between 8 and 4 bits: the blocks of x and its largest code, how many dwords of x
/// meet a word of the weight, and how the codes are taken out of one. Zeros are taken away at the
/// end of a block: zero * (sum of x). Where kShortSums, the sum of x has 16 bits.
template <typename S, Packing packing>
struct IntegerCodes;

/// 255 * 32767 * 128 < 2^31: a block of 128 inputs fits, before and after the zero is taken away.
/// Where bytes are multiplied with bytes, a word is taken as it is.
template <typename S>
struct IntegerCodes<S, Packing::kInt8> {
  using W = typename S::W;
  static constexpr int64_t kBlock = S::kRoundsToBytes ? 64 : 128;
  static constexpr float kMost = S::kRoundsToBytes ? 127.0f : 32767.0f;
  static constexpr int kDwords = S::kMultipliesBytes ? 1 : 2;
  static constexpr bool kShortSums = S::kRoundsToBytes;
  static_assert(S::kRoundsToBytes || !S::kMultipliesBytes);
  static_assert(!kShortSums || kBlock * kMost < 32768);

  template <int kHalf>
  static W Half(W words) {
    if constexpr (S::kMultipliesBytes) return words;
    return kHalf == 0 ? S::EvenBytes(words) : S::OddBytes(words);
  }
  static W Dot(W sum, W codes, W x) {
    if constexpr (S::kMultipliesBytes) return S::DotBytes(sum, codes, x);
    return S::DotPairs(sum, codes, x);
  }
  static W Sum(W sum) { return sum; }
};

/// 15 * 127 * 2 * 8 < 2^15: the eight dwords of a block of 32 inputs may be summed in 16 bits.
template <typename S>
struct IntegerCodes<S, Packing::kInt4> {
  using W = typename S::W;
  static constexpr int64_t kBlock = 32;
  static constexpr float kMost = 127.0f;
  static constexpr int kDwords = 2;
  static constexpr bool kShortSums = true;
  static_assert(kBlock * kMost < 32768);

  template <int kHalf>
  static W Half(W words) {
    return kHalf == 0 ? S::LowNibbles(words) : S::HighNibbles(words);
  }
  static W Dot(W sum, W codes, W x) { return S::DotBytes(sum, codes, x); }
  static W Sum(W sum) { return S::Widened(sum); }
};

/// `total` and the sums of one block of inputs: what zero times the sum of x amounts to is taken
/// away as an integer, then come the scales of the weight and of x.
template <typename S, Packing packing>
XCOMPOSER_INLINE typename S::F BlockSum(typename S::W sums, typename S::W zero, typename S::F scale,
                                        int32_t x_sum, float x_scale, typename S::F total) {
  using Codes = IntegerCodes<S, packing>;
  const auto x = S::SetWords(static_cast<uint32_t>(x_sum));
  const auto sum = Codes::Sum(sums);
  const auto integers =
      Codes::kShortSums ? S::SubShortProduct(sum, zero, x) : S::SubProduct(sum, zero, x);
  return S::Fma(S::Set(x_scale), S::Mul(scale, S::FromWords(integers)), total);
}

/// The products of one dword of each of some rows of x with dwords of codes, added to the sums.
template <typename S, Packing packing, int kRows, int kVectors>
XCOMPOSER_INLINE void AddProducts(const typename S::W (&codes)[kVectors], const uint32_t* x,
                                  typename S::W (&sums)[kRows][kVectors]) {
  XCOMPOSER_UNROLL
  for (int t = 0; t < kRows; ++t) {
    const typename S::W row = S::SetWords(x[t]);
    XCOMPOSER_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      sums[t][v] = S::KeepWords(IntegerCodes<S, packing>::Dot(sums[t][v], codes[v], row));
    }
  }
}

}  // namespace xcomposer::cpu
