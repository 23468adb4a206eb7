#pragma once

#include <immintrin.h>

#include "kernels/cpu/simd.h"

namespace xcomposer::cpu {

/// Sixteen floats; AVX-512 F, BW, VL and DQ. Several sources compile this, for processors that have
/// more or less besides: `Own` is a structure that only one of them has.
template <typename Own>
struct Avx512Of {
  static constexpr int64_t kWidth = 16;
  static constexpr int kRows = 8;
  static constexpr int kVectors = 3;
  static constexpr int kIntegerRows = 8;
  static constexpr int kIntegerVectors = 3;
  static constexpr bool kJoinsLines = true;
  static constexpr bool kRoundsToBytes = false;
  static constexpr bool kMultipliesBytes = false;
  static constexpr bool kMultipliesPairs = false;

  typedef __m512 F;
  typedef __m512i W;

  static F Zero() { return _mm512_setzero_ps(); }
  static F Set(float x) { return _mm512_set1_ps(x); }
  static F Load(const float* p) { return _mm512_loadu_ps(p); }
  static F LoadN(const float* p, int64_t n) { return _mm512_maskz_loadu_ps(Mask(n), p); }
  static void Store(float* p, F f) { _mm512_storeu_ps(p, f); }
  static void StoreN(float* p, F f, int64_t n) { _mm512_mask_storeu_ps(p, Mask(n), f); }
  template <Format format>
  static F LoadAs(const typename ElementOf<format>::Type* p) {
    if constexpr (format == Format::kFloat32) {
      return Load(p);
    } else {
      return Widen16<format>(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    }
  }
  template <Format format>
  static F LoadAsN(const typename ElementOf<format>::Type* p, int64_t n) {
    if constexpr (format == Format::kFloat32) {
      return LoadN(p, n);
    } else {
      return Widen16<format>(_mm256_maskz_loadu_epi16(Mask(n), p));
    }
  }
  // Of bfloat16, even and odd numbers: one instruction for each vector.
  template <Format format>
  static F LoadFirst(const typename ElementOf<format>::Type* p) {
    if constexpr (format == Format::kBfloat16) {
      return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(p), 16));
    } else {
      return LoadAs<format>(p);
    }
  }
  template <Format format>
  static F LoadSecond(const typename ElementOf<format>::Type* p) {
    if constexpr (format == Format::kBfloat16) {
      return _mm512_castsi512_ps(
          _mm512_and_si512(_mm512_loadu_si512(p), _mm512_set1_epi32(~0xffff)));
    } else {
      return LoadAs<format>(p + kWidth);
    }
  }
  template <Format format>
  static void StorePairs(const float* x, float* out) {
    F first = Load(x);
    F second = Load(x + kWidth);
    if constexpr (format == Format::kBfloat16) {
      const W even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
      const W odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
      const F low = first;
      first = _mm512_permutex2var_ps(low, even, second);
      second = _mm512_permutex2var_ps(low, odd, second);
    }
    Store(out, first);
    Store(out + kWidth, second);
  }
  // The same of 32 numbers of 16 bits in a register.
  template <Format format>
  static F First(W line) {
    if constexpr (format == Format::kBfloat16) {
      return _mm512_castsi512_ps(_mm512_slli_epi32(line, 16));
    } else {
      return _mm512_cvtph_ps(_mm512_castsi512_si256(line));
    }
  }
  template <Format format>
  static F Second(W line) {
    if constexpr (format == Format::kBfloat16) {
      return _mm512_castsi512_ps(_mm512_and_si512(line, _mm512_set1_epi32(~0xffff)));
    } else {
      return _mm512_cvtph_ps(_mm512_extracti64x4_epi64(line, 1));
    }
  }
  static F Keep(F f) {
    asm("" : "+v"(f));
    return f;
  }
  static F Add(F a, F b) { return _mm512_add_ps(a, b); }
  static F Sub(F a, F b) { return _mm512_sub_ps(a, b); }
  static F Mul(F a, F b) { return _mm512_mul_ps(a, b); }
  static F Div(F a, F b) { return _mm512_div_ps(a, b); }
  static F Fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  static F Max(F a, F b) { return _mm512_max_ps(a, b); }
  static F Min(F a, F b) { return _mm512_min_ps(a, b); }
  static F Less(F a, F b, F x, F y) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), y, x);
  }
  static F Round(F a) {
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  static F PowerOfTwo(F n) {
    const __m512i exponent = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
    return _mm512_castsi512_ps(_mm512_slli_epi32(exponent, 23));
  }
  static float Sum(F a) {
    const __m256 low = _mm512_castps512_ps256(a);
    const __m256 high = _mm512_extractf32x8_ps(a, 1);
    const __m256 eight = _mm256_add_ps(low, high);
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    four = _mm_add_ps(four, _mm_movehl_ps(four, four));
    four = _mm_add_ss(four, _mm_movehdup_ps(four));
    return _mm_cvtss_f32(four);
  }
  // The steps of Sum, each for two vectors at a time.
  static F SumFours(const F (&a)[4][4]) {
    const auto halves = [](F x, F y) {
      return Add(_mm512_shuffle_f32x4(x, y, 0x44), _mm512_shuffle_f32x4(x, y, 0xee));
    };
    const auto quarters = [&](int h) {
      const F x = halves(a[0][h], a[1][h]);
      const F y = halves(a[2][h], a[3][h]);
      return Add(_mm512_shuffle_f32x4(x, y, 0x88), _mm512_shuffle_f32x4(x, y, 0xdd));
    };
    const auto eighths = [](F x, F y) {
      return Add(_mm512_shuffle_ps(x, y, 0x44), _mm512_shuffle_ps(x, y, 0xee));
    };
    const F low = eighths(quarters(0), quarters(1));
    const F high = eighths(quarters(2), quarters(3));
    return Add(_mm512_shuffle_ps(low, high, 0x88), _mm512_shuffle_ps(low, high, 0xdd));
  }
  static float Largest(F a) { return _mm512_reduce_max_ps(a); }
  // A row of numbers that does not begin with a line of memory is read by whole lines, each joined
  // with the next one: its words begin `shift` bytes into the line.
  static W LoadLine(const void* line) { return _mm512_load_si512(line); }
  static W LoadLinePart(const void* line, int64_t begin, int64_t end) {
    const uint64_t below = end < 64 ? (uint64_t{1} << end) - 1 : ~uint64_t{0};
    return _mm512_maskz_loadu_epi8(below & ~((uint64_t{1} << begin) - 1), line);
  }
  static W JoinPlaces(int64_t shift) {
    const __m512i count = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return _mm512_add_epi32(count, _mm512_set1_epi32(static_cast<int>(shift / 4)));
  }
  static W JoinLines(W line, W places, W next) {
    return _mm512_permutex2var_epi32(line, places, next);
  }
  // An instruction that may not be left out: of the intrinsic the compiler knows no effect, and it
  // drops calls and loops that do nothing else.
  static XCOMPOSER_INLINE void Prefetch(const void* p) {
    asm volatile("prefetcht0 %0" : : "m"(*static_cast<const char*>(p)));
  }

  /// Turns sixteen rows of sixteen 32-bit words around.
  static void Transpose(__m512i (&r)[16]) {
    __m512i a[16];
    __m512i b[16];
    XCOMPOSER_UNROLL
    for (int i = 0; i < 16; i += 2) {
      a[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
      a[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    XCOMPOSER_UNROLL
    for (int i = 0; i < 16; i += 4) {
      b[i] = _mm512_unpacklo_epi64(a[i], a[i + 2]);
      b[i + 1] = _mm512_unpackhi_epi64(a[i], a[i + 2]);
      b[i + 2] = _mm512_unpacklo_epi64(a[i + 1], a[i + 3]);
      b[i + 3] = _mm512_unpackhi_epi64(a[i + 1], a[i + 3]);
    }
    // b[4 q + c] holds in its 128-bit lane l: word 4 l + c of the rows 4 q .. 4 q + 3.
    XCOMPOSER_UNROLL
    for (int c = 0; c < 4; ++c) {
      const __m512i even_low = _mm512_shuffle_i32x4(b[c], b[4 + c], 0x88);
      const __m512i even_high = _mm512_shuffle_i32x4(b[8 + c], b[12 + c], 0x88);
      const __m512i odd_low = _mm512_shuffle_i32x4(b[c], b[4 + c], 0xdd);
      const __m512i odd_high = _mm512_shuffle_i32x4(b[8 + c], b[12 + c], 0xdd);
      r[c] = _mm512_shuffle_i32x4(even_low, even_high, 0x88);
      r[4 + c] = _mm512_shuffle_i32x4(odd_low, odd_high, 0x88);
      r[8 + c] = _mm512_shuffle_i32x4(even_low, even_high, 0xdd);
      r[12 + c] = _mm512_shuffle_i32x4(odd_low, odd_high, 0xdd);
    }
  }

  static void PackRows(const float* const (&rows)[kRows], float* out, int64_t stride) {
    __m256 r[8];
    __m256 a[8];
    XCOMPOSER_UNROLL
    for (int i = 0; i < 8; ++i) r[i] = _mm256_loadu_ps(rows[i]);
    XCOMPOSER_UNROLL
    for (int i = 0; i < 8; i += 2) {
      a[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
      a[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    XCOMPOSER_UNROLL
    for (int i = 0; i < 8; i += 4) {
      r[i] = _mm256_shuffle_ps(a[i], a[i + 2], 0x44);
      r[i + 1] = _mm256_shuffle_ps(a[i], a[i + 2], 0xee);
      r[i + 2] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0x44);
      r[i + 3] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0xee);
    }
    XCOMPOSER_UNROLL
    for (int c = 0; c < 4; ++c) {
      _mm256_storeu_ps(out + c * stride, _mm256_permute2f128_ps(r[c], r[c + 4], 0x20));
      _mm256_storeu_ps(out + (c + 4) * stride, _mm256_permute2f128_ps(r[c], r[c + 4], 0x31));
    }
  }

  static W LoadWords(const uint32_t* p) { return _mm512_loadu_si512(p); }
  static W LoadWordsN(const uint32_t* p, int64_t n) { return _mm512_maskz_loadu_epi32(Mask(n), p); }
  static void StoreWords(uint32_t* p, W w) { _mm512_storeu_si512(p, w); }
  static W SetWords(uint32_t n) { return _mm512_set1_epi32(static_cast<int>(n)); }
  static W KeepWords(W w) {
    asm("" : "+v"(w));
    return w;
  }
  static W RoundToWords(F f) { return _mm512_cvtps_epi32(f); }
  static F FromWords(W w) { return _mm512_cvtepi32_ps(w); }
  static W EvenBytes(W w) { return _mm512_and_si512(w, _mm512_set1_epi16(0xff)); }
  static W OddBytes(W w) { return _mm512_srli_epi16(w, 8); }
  static W LowNibbles(W w) { return _mm512_and_si512(w, _mm512_set1_epi8(15)); }
  static W HighNibbles(W w) { return LowNibbles(_mm512_srli_epi16(w, 4)); }
  static W DotPairs(W sum, W a, W b) { return _mm512_add_epi32(sum, _mm512_madd_epi16(a, b)); }
  static W DotBytes(W sum, W a, W b) { return _mm512_add_epi16(sum, _mm512_maddubs_epi16(a, b)); }
  static W Widened(W sum) { return _mm512_madd_epi16(sum, _mm512_set1_epi16(1)); }
  static W SubProduct(W sum, W a, W b) { return _mm512_sub_epi32(sum, _mm512_mullo_epi32(a, b)); }
  static W SubShortProduct(W sum, W a, W b) {
    return _mm512_sub_epi32(sum, _mm512_madd_epi16(a, b));
  }
  template <int kBits>
  static F Field(W words, int i) {
    const __m512i mask = _mm512_set1_epi32((1 << kBits) - 1);
    return _mm512_cvtepi32_ps(
        _mm512_and_si512(_mm512_srli_epi32(words, static_cast<unsigned>(kBits * i)), mask));
  }
  template <int kBits>
  static F PlacedField(W words, int i) {
    if (kBits * (i + 1) == 32) return _mm512_cvtepi32_ps(_mm512_srli_epi32(words, 32 - kBits));
    const __m512i mask = _mm512_set1_epi32(((1 << kBits) - 1) << (kBits * i));
    return _mm512_cvtepi32_ps(_mm512_and_si512(words, mask));
  }
  static void TurnEights(const float* const (&rows)[8], float* out) {
    PackRows(rows, out, 8);
    const float* second[8];
    for (int i = 0; i < 8; ++i) second[i] = rows[i] + 8;
    PackRows(second, out + 64, 8);
  }
  static W AddWords(W a, W b) { return _mm512_add_epi32(a, b); }
  // Modulo 2^32, in numbers of 64 bits that cannot overflow.
  static int32_t SumWords(W a) {
    const W pairs = _mm512_add_epi32(a, _mm512_srli_epi64(a, 32));
    return static_cast<int32_t>(_mm512_reduce_add_epi64(_mm512_maskz_mov_epi32(0x5555, pairs)));
  }
  template <int kBits>
  static W Raised(W w) {
    return _mm512_slli_epi32(w, kBits);
  }
  static W WithNibble(W a, W b) {
    return _mm512_ternarylogic_epi32(a, b, _mm512_set1_epi32(0xf00000), 0xf8);  // a | (b & mask)
  }
  static F PackedNumbers(W w) {
    return _mm512_castsi512_ps(_mm512_ternarylogic_epi32(
        _mm512_srai_epi32(w, 4), _mm512_set1_epi32(static_cast<int>(0x87ff0000u)),
        _mm512_set1_epi32(112 << 23), 0xea));  // (w & mask) | exponent
  }
  static W PackedPair(W even, W odd) {
    const W both = _mm512_mask_blend_epi16(0xaaaaaaaau, _mm512_srai_epi32(even, 20),
                                           _mm512_srai_epi32(odd, 4));
    return _mm512_and_si512(both, _mm512_set1_epi16(static_cast<short>(0x87ff)));
  }
  static constexpr int64_t kCodeWords = 16;
  template <bool kApart>
  static void StoreBytes(const uint32_t* words, uint32_t* out) {
    __m128i bytes = _mm512_cvtepi32_epi8(LoadWords(words));
    if constexpr (kApart) {
      const __m128i apart = _mm_setr_epi8(0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15);
      bytes = _mm_shuffle_epi8(bytes, apart);
    }
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), bytes);
  }
  static void StoreShorts(const uint32_t* words, uint32_t* out) {
    const __m256i shorts = _mm512_cvtepi32_epi16(LoadWords(words));
    const __m256i low = _mm256_shufflelo_epi16(shorts, 0xd8);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm256_shufflehi_epi16(low, 0xd8));
  }
  template <bool kAwq>
  static W NibbleWords(const uint32_t* row, int64_t n, int64_t lanes) {
    const __m256i shifts = kAwq ? _mm256_setr_epi32(0, 16, 4, 20, 8, 24, 12, 28)
                                : _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28);
    const uint32_t* words = row + n / 8;
    const __m512i low = _mm512_set1_epi32(static_cast<int>(words[0]));
    // The second word of a half vector is none of this row's; its lanes are zeros.
    const __m512i both =
        _mm512_mask_set1_epi32(low, 0xff00, lanes > 8 ? static_cast<int>(words[1]) : 0);
    return _mm512_and_si512(_mm512_srlv_epi32(both, _mm512_broadcast_i64x4(shifts)),
                            _mm512_set1_epi32(15));
  }
  static W ByteWords(const uint8_t* p, int64_t lanes) {
    return _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(Mask(lanes), p));
  }
  static F SignedBytes(const int8_t* p) {
    const __m128i sixteen = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(sixteen));
  }

  template <Format format>
  static constexpr int64_t kPackColumns = format == Format::kFloat32 ? 16 : 32;

  // 16-bit numbers are turned around in pairs, as 32-bit words, and widened afterwards.
  template <Format format>
  static void PackWeights(const typename ElementOf<format>::Type* const (&rows)[kWidth], float* out,
                          int64_t stride) {
    __m512i r[16];
    XCOMPOSER_UNROLL
    for (int i = 0; i < 16; ++i) r[i] = _mm512_loadu_si512(rows[i]);
    Transpose(r);
    XCOMPOSER_UNROLL
    for (int c = 0; c < 16; ++c) {
      if constexpr (format == Format::kFloat32) {
        Store(out + c * stride, _mm512_castsi512_ps(r[c]));
      } else if constexpr (format == Format::kBfloat16) {
        Store(out + 2 * c * stride, _mm512_castsi512_ps(_mm512_slli_epi32(r[c], 16)));
        Store(out + (2 * c + 1) * stride,
              _mm512_castsi512_ps(_mm512_and_si512(r[c], _mm512_set1_epi32(~0xffff))));
      } else {
        Store(out + 2 * c * stride, _mm512_cvtph_ps(_mm512_cvtepi32_epi16(r[c])));
        Store(out + (2 * c + 1) * stride,
              _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32(r[c], 16))));
      }
    }
  }

 private:
  static __mmask16 Mask(int64_t n) { return static_cast<__mmask16>((1u << n) - 1u); }
  template <Format format>
  static F Widen16(__m256i stored) {
    if constexpr (format == Format::kBfloat16) {
      return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(stored), 16));
    } else {
      return _mm512_cvtph_ps(stored);
    }
  }
};

struct Avx512 : Avx512Of<Avx512> {};

}  // namespace xcomposer::cpu
