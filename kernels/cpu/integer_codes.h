#pragma once

#include "kernels/cpu/packed_matrix.h"
#include "kernels/cpu/simd.h"

namespace xcomposer::cpu {

/// What differs between 8 and 4 bits. Zeros are taken away at the end of a block: zero * (sum of
/// x).
template <typename S, Packing packing>
struct IntegerCodes;

/// 255 * 32767 * 128 < 2^31: a block of 128 inputs fits, before and after the zero is taken away.
template <typename S>
struct IntegerCodes<S, Packing::kGptq8> {
  using W = typename S::W;

  template <int kHalf>
  static W Half(W words) {
    return kHalf == 0 ? S::EvenBytes(words) : S::OddBytes(words);
  }
  static W Dot(W sum, W codes, W x) { return S::DotPairs(sum, codes, x); }
  static W Sum(W sum) { return sum; }
};

/// 15 * 127 * 2 * 8 < 2^15: the eight dwords of a block of 32 inputs may be summed in 16 bits.
template <typename S>
struct IntegerCodes<S, Packing::kGptq4> {
  using W = typename S::W;

  template <int kHalf>
  static W Half(W words) {
    return kHalf == 0 ? S::LowNibbles(words) : S::HighNibbles(words);
  }
  static W Dot(W sum, W codes, W x) { return S::DotBytes(sum, codes, x); }
  static W Sum(W sum) { return S::Widened(sum); }
};

}  // namespace xcomposer::cpu
