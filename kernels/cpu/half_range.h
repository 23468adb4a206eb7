#pragma once

#include <cstdint>

#if defined(__AVX2__) && defined(__F16C__)
#include <immintrin.h>
#endif

#include "kernels/cpu/half_cast.h"

// One form for processors that convert to float16, whose vectors of 256 bits keep up with memory,
// and one of integers for all others. S keeps the instances apart (simd.h).
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

#if defined(__AVX2__) && defined(__F16C__)

template <typename S>
int64_t SumOf(__m256i counts) {
  uint16_t lanes[16];
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(lanes), counts);
  int64_t sum = 0;
  for (const uint16_t lane : lanes) sum += lane;
  return sum;
}

/// Whole vectors; returns how many numbers those are.
template <typename S>
int64_t HalfVectors(const uint16_t* in, uint16_t* out, int64_t count, HalfLosses& losses) {
  constexpr int64_t kWidth = 16;
  constexpr int64_t kCounted = kWidth << 12;  // at a time, so that no lane of 16 bits overflows
  const __m256i zero = _mm256_setzero_si256();
  const __m256i size_bits = _mm256_set1_epi16(0x7FFF);
  const __m256i infinity = _mm256_set1_epi16(kBfloat16Infinity);
  const __m256i half_infinity = _mm256_set1_epi16(0x7C00);
  const int64_t whole = count / kWidth * kWidth;
  for (int64_t first = 0; first < whole;) {
    const int64_t end = whole - first > kCounted ? first + kCounted : whole;
    __m256i overflows = zero;
    __m256i underflows = zero;
    for (; first < end; first += kWidth) {
      const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(in + first));
      // A bfloat16 number is the upper half of a float32 number. Unpacking stays within 128 bits:
      // numbers 0 to 3 and 8 to 11, then the others.
      const __m128i even = _mm256_cvtps_ph(_mm256_castsi256_ps(_mm256_unpacklo_epi16(zero, x)),
                                           _MM_FROUND_TO_NEAREST_INT);
      const __m128i odd = _mm256_cvtps_ph(_mm256_castsi256_ps(_mm256_unpackhi_epi16(zero, x)),
                                          _MM_FROUND_TO_NEAREST_INT);
      const __m256i half =
          _mm256_set_m128i(_mm_unpackhi_epi64(even, odd), _mm_unpacklo_epi64(even, odd));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + first), half);
      const __m256i size = _mm256_and_si256(x, size_bits);
      const __m256i half_size = _mm256_and_si256(half, size_bits);
      // A comparison that holds gives -1.
      overflows =
          _mm256_sub_epi16(overflows, _mm256_and_si256(_mm256_cmpeq_epi16(half_size, half_infinity),
                                                       _mm256_cmpgt_epi16(infinity, size)));
      underflows = _mm256_sub_epi16(
          underflows,
          _mm256_andnot_si256(_mm256_cmpeq_epi16(size, zero), _mm256_cmpeq_epi16(half_size, zero)));
    }
    losses.overflows += SumOf<S>(overflows);
    losses.underflows += SumOf<S>(underflows);
  }
  return whole;
}

#else

/// Whole blocks; returns how many numbers those are. They are converted as if all were in float16's
/// normal range, and once more one by one if any is not: of weights, one in some hundreds.
template <typename S>
int64_t HalfVectors(const uint16_t* in, uint16_t* out, int64_t count, HalfLosses& losses) {
  constexpr int64_t kBlock = 32;
  int64_t first = 0;
  for (; first + kBlock <= count; first += kBlock) {
    const uint16_t* from = in + first;
    uint16_t* to = out + first;
    uint16_t others = 0;
    for (int64_t i = 0; i < kBlock; ++i) {
      const auto size = static_cast<uint16_t>(from[i] & 0x7FFFu);
      others |= static_cast<uint16_t>(size - kSmallestNormal) >= kNormals ? 1 : 0;
      to[i] = static_cast<uint16_t>((from[i] & 0x8000u) |
                                    static_cast<uint16_t>((size - kExponentShift) << 3));
    }
    if (others == 0) continue;
    for (int64_t i = 0; i < kBlock; ++i) to[i] = HalfOfBfloat16<S>(from[i], losses);
  }
  return first;
}

#endif

template <typename S>
void HalfRange(const uint16_t* in, uint16_t* out, int64_t count, HalfLosses& losses) {
  for (int64_t i = HalfVectors<S>(in, out, count, losses); i < count; ++i) {
    out[i] = HalfOfBfloat16<S>(in[i], losses);
  }
}

}  // namespace xcomposer::cpu
