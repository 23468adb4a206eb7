#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "kernels/cpu/simd_portable.h"

namespace xcomposer::cpu {

/// Portable with pairs of bfloat16 in a word (kernels/cpu/bfloat_pairs.h) in plain code, as Intel's
/// manual (volume 2, VDPBF16PS, VCVTNE2PS2BF16) defines them.
struct EmulatedPairs : Portable {
  static constexpr bool kMultipliesPairs = true;

  static F Fma(F a, F b, F c) {
    for (int i = 0; i < kWidth; ++i) {
      const uint32_t x = Word(a[i]);
      const uint32_t y = Word(b[i]);
      const float odd = Flushed(std::fma(Bfloat(x >> 16), Bfloat(y >> 16), Flushed(c[i])));
      c[i] = Flushed(std::fma(Bfloat(x), Bfloat(y), odd));
    }
    return c;
  }
  static F Pairs(F first, F second) {
    F words = Zero();
    for (int i = 0; i < kWidth; ++i) {
      const auto number = [&](int64_t j) { return j < kWidth ? first[j] : second[j - kWidth]; };
      words[i] = Pair(number(2 * i), number(2 * i + 1));
    }
    return words;
  }
  static F PairLanes(F even, F odd) {
    F words = Zero();
    for (int i = 0; i < kWidth; ++i) words[i] = Pair(even[i], odd[i]);
    return words;
  }

  /// The nearest bfloat16's bits, to even where two are as near; a number below 2^-126 counts as
  /// zero.
  static uint32_t Nearest(float x) {
    const uint32_t bits = Word(Flushed(x));
    if (std::isnan(x)) return bits >> 16 | 0x40u;
    return (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
  }
  /// The same as a float.
  static float Rounded(float x) { return Float(Nearest(x) << 16); }

 private:
  static float Pair(float low, float high) { return Float(Nearest(low) | Nearest(high) << 16); }
  static float Float(uint32_t word) {
    float x;
    std::memcpy(&x, &word, 4);
    return x;
  }
  static uint32_t Word(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    return bits;
  }
  static float Bfloat(uint32_t low_half) { return Flushed(Float(low_half << 16)); }
  static float Flushed(float x) {
    return std::fpclassify(x) == FP_SUBNORMAL ? std::copysign(0.0f, x) : x;
  }
};

}  // namespace xcomposer::cpu
