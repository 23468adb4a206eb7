#pragma once

#include <cstdint>

#include "kernels/cpu/half_cast.h"

// Integers only, which compilers turn into vectors of S's instruction set by themselves; S keeps
// the instances apart (simd.h).
namespace xcomposer::cpu {

// bfloat16 as stored, without the sign: 8 bits of exponent, 7 of fraction.
inline constexpr unsigned kBfloat16Infinity = 0x7F80;
inline constexpr unsigned kSmallestNormal = (127 - 14) << 7;  // that float16 has
inline constexpr unsigned kNormals = 30 << 7;                 // so many numbers from there on
inline constexpr unsigned kExponentShift = (127 - 15) << 7;   // between the two biases

/// One number. All bfloat16 numbers in float16's normal range are float16 numbers; those below are
/// rounded to multiples of 2^-24.
template <typename S>
uint16_t HalfOfBfloat16(uint16_t stored, HalfLosses& losses) {
  constexpr unsigned kUnit = 127 - 24 + 7;  // exponent of a number whose last digit is 2^-24
  const unsigned sign = stored & 0x8000u;
  const unsigned size = stored & 0x7FFFu;
  if (size - kSmallestNormal < kNormals) {
    return static_cast<uint16_t>(sign | (size - kExponentShift) << 3);
  }
  if (size > kBfloat16Infinity) return static_cast<uint16_t>(sign | 0x7E00u);  // not a number
  if (size > kSmallestNormal) {
    losses.overflows += size != kBfloat16Infinity;
    return static_cast<uint16_t>(sign | 0x7C00u);
  }
  const unsigned exponent = size >> 7;
  const unsigned digits = 0x80u | (size & 0x7Fu);
  unsigned units = 0;
  if (exponent >= kUnit) {
    units = digits << (exponent - kUnit);
  } else if (kUnit - exponent <= 8) {
    const unsigned shift = kUnit - exponent;
    const unsigned half = 1u << (shift - 1);
    const unsigned rest = digits & (2 * half - 1);
    units = digits >> shift;
    units += rest > half || (rest == half && (units & 1u) != 0);
  }
  losses.underflows += size != 0 && units == 0;
  return static_cast<uint16_t>(sign | units);
}

/// Blocks are converted as if all their numbers were in float16's normal range, and once more one
/// by one if any is not: of weights, one number in some hundreds.
template <typename S>
void HalfRange(const uint16_t* in, uint16_t* out, int64_t count, HalfLosses& losses) {
  constexpr int64_t kBlock = 32;
  int64_t first = 0;
  for (; first + kBlock <= count; first += kBlock) {
    uint16_t others = 0;
    for (int64_t i = first; i < first + kBlock; ++i) {
      const auto size = static_cast<uint16_t>(in[i] & 0x7FFFu);
      others |= static_cast<uint16_t>(size - kSmallestNormal) >= kNormals ? 1 : 0;
      out[i] = static_cast<uint16_t>((in[i] & 0x8000u) |
                                     static_cast<uint16_t>((size - kExponentShift) << 3));
    }
    if (others == 0) continue;
    for (int64_t i = first; i < first + kBlock; ++i) out[i] = HalfOfBfloat16<S>(in[i], losses);
  }
  for (; first < count; ++first) out[first] = HalfOfBfloat16<S>(in[first], losses);
}

}  // namespace xcomposer::cpu
