#pragma once

#include <immintrin.h>

#include "kernels/cpu/simd.h"

namespace xcomposer::cpu {

/// Eight floats; AVX2 with FMA and F16C.
struct Avx2 {
  static constexpr int64_t kWidth = 8;
  // Three loads and four broadcasts for twelve products; 6 x 2 needs one more.
  static constexpr int kRows = 4;
  static constexpr int kVectors = 3;
  // A product of integers needs one more register, and 6 x 2 one less.
  static constexpr int kIntegerRows = 6;
  static constexpr int kIntegerVectors = 2;
  static constexpr bool kJoinsLines = false;
  static constexpr bool kRoundsToBytes = false;
  static constexpr bool kMultipliesBytes = false;
  static constexpr bool kMultipliesPairs = false;

  typedef __m256 F;

  static F Zero() { return _mm256_setzero_ps(); }
  static F Set(float x) { return _mm256_set1_ps(x); }
  static F Load(const float* p) { return _mm256_loadu_ps(p); }
  static F LoadN(const float* p, int64_t n) { return _mm256_maskload_ps(p, Mask(n)); }
  static void Store(float* p, F f) { _mm256_storeu_ps(p, f); }
  static void StoreN(float* p, F f, int64_t n) { _mm256_maskstore_ps(p, Mask(n), f); }
  template <Format format>
  static F LoadAs(const typename ElementOf<format>::Type* p) {
    if constexpr (format == Format::kFloat32) {
      return Load(p);
    } else {
      return Widen8<format>(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    }
  }
  template <Format format>
  static F LoadAsN(const typename ElementOf<format>::Type* p, int64_t n) {
    if constexpr (format == Format::kFloat32) {
      return LoadN(p, n);
    } else {
      uint16_t copy[8] = {};
      std::memcpy(copy, p, static_cast<size_t>(n) * sizeof(uint16_t));
      return Widen8<format>(_mm_loadu_si128(reinterpret_cast<const __m128i*>(copy)));
    }
  }
  // Of bfloat16, even and odd numbers: one instruction for each vector.
  template <Format format>
  static F LoadFirst(const typename ElementOf<format>::Type* p) {
    if constexpr (format == Format::kBfloat16) {
      return _mm256_castsi256_ps(
          _mm256_slli_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)), 16));
    } else {
      return LoadAs<format>(p);
    }
  }
  template <Format format>
  static F LoadSecond(const typename ElementOf<format>::Type* p) {
    if constexpr (format == Format::kBfloat16) {
      __m256i words = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
      // From memory: in a register, the mask takes the place of a sum.
      constexpr uint32_t kHalf = 0xffff0000u;
      alignas(32) static constexpr uint32_t kHigh[] = {kHalf, kHalf, kHalf, kHalf,
                                                       kHalf, kHalf, kHalf, kHalf};
      asm("vpand %1, %0, %0" : "+x"(words) : "m"(kHigh));
      return _mm256_castsi256_ps(words);
    } else {
      return LoadAs<format>(p + kWidth);
    }
  }
  template <Format format>
  static void StorePairs(const float* x, float* out) {
    F first = Load(x);
    F second = Load(x + kWidth);
    if constexpr (format == Format::kBfloat16) {
      const F even = _mm256_shuffle_ps(first, second, 0x88);  // 0 2 8 10 | 4 6 12 14
      const F odd = _mm256_shuffle_ps(first, second, 0xdd);
      first = _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(even), 0xd8));
      second = _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(odd), 0xd8));
    }
    Store(out, first);
    Store(out + kWidth, second);
  }
  static F Keep(F f) {
    asm("" : "+x"(f));
    return f;
  }
  static F Add(F a, F b) { return _mm256_add_ps(a, b); }
  static F Sub(F a, F b) { return _mm256_sub_ps(a, b); }
  static F Mul(F a, F b) { return _mm256_mul_ps(a, b); }
  static F Div(F a, F b) { return _mm256_div_ps(a, b); }
  static F Fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
  static F Max(F a, F b) { return _mm256_max_ps(a, b); }
  static F Min(F a, F b) { return _mm256_min_ps(a, b); }
  static F Less(F a, F b, F x, F y) {
    return _mm256_blendv_ps(y, x, _mm256_cmp_ps(a, b, _CMP_LT_OQ));
  }
  static F Round(F a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  static F PowerOfTwo(F n) {
    const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23));
  }
  static float Sum(F a) {
    __m128 half = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    half = _mm_add_ps(half, _mm_movehl_ps(half, half));
    half = _mm_add_ss(half, _mm_movehdup_ps(half));
    return _mm_cvtss_f32(half);
  }
  // The steps of Sum, each for two vectors at a time.
  static F SumFours(const F (&a)[2][4]) {
    const auto halves = [&a](int h) {
      return Add(_mm256_permute2f128_ps(a[0][h], a[1][h], 0x20),
                 _mm256_permute2f128_ps(a[0][h], a[1][h], 0x31));
    };
    const auto quarters = [](F x, F y) {
      return Add(_mm256_shuffle_ps(x, y, 0x44), _mm256_shuffle_ps(x, y, 0xee));
    };
    const F low = quarters(halves(0), halves(1));
    const F high = quarters(halves(2), halves(3));
    return Add(_mm256_shuffle_ps(low, high, 0x88), _mm256_shuffle_ps(low, high, 0xdd));
  }
  static float Largest(F a) {
    __m128 half = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    half = _mm_max_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_max_ss(half, _mm_movehdup_ps(half)));
  }
  // An instruction that may not be left out: of the intrinsic the compiler knows no effect, and it
  // drops calls and loops that do nothing else.
  static XCOMPOSER_INLINE void Prefetch(const void* p) {
    asm volatile("prefetcht0 %0" : : "m"(*static_cast<const char*>(p)));
  }

  /// Turns eight rows of eight 32-bit words around.
  static void Transpose(__m256i (&r)[8]) {
    __m256i a[8];
    __m256i b[8];
    XCOMPOSER_UNROLL
    for (int i = 0; i < 8; i += 2) {
      a[i] = _mm256_unpacklo_epi32(r[i], r[i + 1]);
      a[i + 1] = _mm256_unpackhi_epi32(r[i], r[i + 1]);
    }
    XCOMPOSER_UNROLL
    for (int i = 0; i < 8; i += 4) {
      b[i] = _mm256_unpacklo_epi64(a[i], a[i + 2]);
      b[i + 1] = _mm256_unpackhi_epi64(a[i], a[i + 2]);
      b[i + 2] = _mm256_unpacklo_epi64(a[i + 1], a[i + 3]);
      b[i + 3] = _mm256_unpackhi_epi64(a[i + 1], a[i + 3]);
    }
    XCOMPOSER_UNROLL
    for (int i = 0; i < 4; ++i) {
      r[i] = _mm256_permute2x128_si256(b[i], b[i + 4], 0x20);
      r[i + 4] = _mm256_permute2x128_si256(b[i], b[i + 4], 0x31);
    }
  }

  /// Turns eight rows of sixteen halves around: columns c and c + 8 end up in the halves of r[c].
  static void TransposeHalves(__m256i (&r)[8]) {
    __m256i a[8];
    __m256i b[8];
    XCOMPOSER_UNROLL
    for (int i = 0; i < 4; ++i) {  // a[i]: columns 0 .. 3 of rows 2 i and 2 i + 1; a[i + 4]: 4 .. 7
      a[i] = _mm256_unpacklo_epi16(r[2 * i], r[2 * i + 1]);
      a[i + 4] = _mm256_unpackhi_epi16(r[2 * i], r[2 * i + 1]);
    }
    XCOMPOSER_UNROLL
    for (int i = 0; i < 8; i += 4) {  // two columns of four rows each
      b[i] = _mm256_unpacklo_epi32(a[i], a[i + 1]);
      b[i + 1] = _mm256_unpackhi_epi32(a[i], a[i + 1]);
      b[i + 2] = _mm256_unpacklo_epi32(a[i + 2], a[i + 3]);
      b[i + 3] = _mm256_unpackhi_epi32(a[i + 2], a[i + 3]);
    }
    XCOMPOSER_UNROLL
    for (int i = 0; i < 8; i += 4) {
      r[i] = _mm256_unpacklo_epi64(b[i], b[i + 2]);
      r[i + 1] = _mm256_unpackhi_epi64(b[i], b[i + 2]);
      r[i + 2] = _mm256_unpacklo_epi64(b[i + 1], b[i + 3]);
      r[i + 3] = _mm256_unpackhi_epi64(b[i + 1], b[i + 3]);
    }
  }

  static void PackRows(const float* const (&rows)[kRows], float* out, int64_t stride) {
    __m256i r[8];
    XCOMPOSER_UNROLL
    for (int i = 0; i < 8; ++i) {
      r[i] = _mm256_castps_si256(_mm256_loadu_ps(rows[i < kRows ? i : kRows - 1]));
    }
    Transpose(r);
    XCOMPOSER_UNROLL
    for (int c = 0; c < 8; ++c) StoreN(out + c * stride, _mm256_castsi256_ps(r[c]), kRows);
  }

  typedef __m256i W;

  static W LoadWords(const uint32_t* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  }
  static W LoadWordsN(const uint32_t* p, int64_t n) {
    return _mm256_maskload_epi32(reinterpret_cast<const int*>(p), Mask(n));
  }
  static void StoreWords(uint32_t* p, W w) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), w);
  }
  static W SetWords(uint32_t n) { return _mm256_set1_epi32(static_cast<int>(n)); }
  static W KeepWords(W w) { return w; }  // DotPairs and DotBytes do
  static W RoundToWords(F f) { return _mm256_cvtps_epi32(f); }
  static F FromWords(W w) { return _mm256_cvtepi32_ps(w); }
  static W EvenBytes(W w) { return _mm256_and_si256(w, _mm256_set1_epi16(0xff)); }
  static W OddBytes(W w) { return _mm256_srli_epi16(w, 8); }
  static W LowNibbles(W w) { return _mm256_and_si256(w, _mm256_set1_epi8(15)); }
  static W HighNibbles(W w) { return LowNibbles(_mm256_srli_epi16(w, 4)); }
  // In the register of the sum: left to itself, GCC moves sums from one to another.
  static W DotPairs(W sum, W a, W b) {
    const W products = _mm256_madd_epi16(a, b);
    asm("vpaddd %1, %0, %0" : "+x"(sum) : "x"(products));
    return sum;
  }
  static W DotBytes(W sum, W a, W b) {
    const W products = _mm256_maddubs_epi16(a, b);
    asm("vpaddw %1, %0, %0" : "+x"(sum) : "x"(products));
    return sum;
  }
  static W Widened(W sum) { return _mm256_madd_epi16(sum, _mm256_set1_epi16(1)); }
  static W SubProduct(W sum, W a, W b) { return _mm256_sub_epi32(sum, _mm256_mullo_epi32(a, b)); }
  static W SubShortProduct(W sum, W a, W b) {
    return _mm256_sub_epi32(sum, _mm256_madd_epi16(a, b));
  }
  template <int kBits>
  static F Field(W words, int i) {
    const __m256i mask = _mm256_set1_epi32((1 << kBits) - 1);
    return _mm256_cvtepi32_ps(_mm256_and_si256(_mm256_srli_epi32(words, kBits * i), mask));
  }
  template <int kBits>
  static F PlacedField(W words, int i) {
    if (kBits * (i + 1) == 32) return _mm256_cvtepi32_ps(_mm256_srli_epi32(words, 32 - kBits));
    const __m256i mask = _mm256_set1_epi32(((1 << kBits) - 1) << (kBits * i));
    return _mm256_cvtepi32_ps(_mm256_and_si256(words, mask));
  }
  static void TurnEights(const float* const (&rows)[8], float* out) {
    __m256i r[8];
    XCOMPOSER_UNROLL
    for (int i = 0; i < 8; ++i) r[i] = _mm256_castps_si256(_mm256_loadu_ps(rows[i]));
    Transpose(r);
    XCOMPOSER_UNROLL
    for (int c = 0; c < 8; ++c) Store(out + c * 8, _mm256_castsi256_ps(r[c]));
  }
  static W AddWords(W a, W b) { return _mm256_add_epi32(a, b); }
  static int32_t SumWords(W a) {
    __m128i half = _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(half, _mm_shuffle_epi32(half, 0xb1)));
  }
  template <int kBits>
  static W Raised(W w) {
    return _mm256_slli_epi32(w, kBits);
  }
  static W WithNibble(W a, W b) {
    return _mm256_or_si256(a, _mm256_and_si256(b, _mm256_set1_epi32(0xf00000)));
  }
  static F PackedNumbers(W w) {
    const W fields =
        _mm256_and_si256(_mm256_srai_epi32(w, 4), _mm256_set1_epi32(static_cast<int>(0x87ff0000u)));
    return _mm256_castsi256_ps(_mm256_or_si256(fields, _mm256_set1_epi32(112 << 23)));
  }
  static W PackedPair(W even, W odd) {
    const W both = _mm256_blend_epi16(_mm256_srai_epi32(even, 20), _mm256_srai_epi32(odd, 4), 0xaa);
    return _mm256_and_si256(both, _mm256_set1_epi16(static_cast<short>(0x87ff)));
  }
  static constexpr int64_t kCodeWords = 8;
  template <bool kApart>
  static void StoreBytes(const uint32_t* words, uint32_t* out) {
    const __m128i shorts = Shorts(words);
    __m128i bytes = _mm_packs_epi16(shorts, shorts);
    if constexpr (kApart) {
      const __m128i apart = _mm_setr_epi8(0, 2, 4, 6, 1, 3, 5, 7, -1, -1, -1, -1, -1, -1, -1, -1);
      bytes = _mm_shuffle_epi8(bytes, apart);
    }
    _mm_storel_epi64(reinterpret_cast<__m128i*>(out), bytes);
  }
  static void StoreShorts(const uint32_t* words, uint32_t* out) {
    const __m128i low = _mm_shufflelo_epi16(Shorts(words), 0xd8);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm_shufflehi_epi16(low, 0xd8));
  }
  template <bool kAwq>
  static W NibbleWords(const uint32_t* row, int64_t n, int64_t) {
    const __m256i shifts = kAwq ? _mm256_setr_epi32(0, 16, 4, 20, 8, 24, 12, 28)
                                : _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28);
    const __m256i word = _mm256_set1_epi32(static_cast<int>(row[n / 8]));
    return _mm256_and_si256(_mm256_srlv_epi32(word, shifts), _mm256_set1_epi32(15));
  }
  static W ByteWords(const uint8_t* p, int64_t) {
    const __m128i eight = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
    return _mm256_cvtepu8_epi32(eight);
  }
  static F SignedBytes(const int8_t* p) {
    const __m128i eight = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(eight));
  }

  template <Format format>
  static constexpr int64_t kPackColumns = format == Format::kFloat32 ? 8 : 16;

  // bfloat16 is turned around in pairs, as 32-bit words, and widened afterwards: one instruction a
  // vector, where float16 needs its numbers side by side.
  template <Format format>
  static void PackWeights(const typename ElementOf<format>::Type* const (&rows)[kWidth], float* out,
                          int64_t stride) {
    __m256i r[8];
    XCOMPOSER_UNROLL
    for (int i = 0; i < 8; ++i)
      r[i] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(rows[i]));
    if constexpr (format == Format::kFloat16) {
      TransposeHalves(r);
    } else {
      Transpose(r);
    }
    XCOMPOSER_UNROLL
    for (int c = 0; c < 8; ++c) {
      if constexpr (format == Format::kFloat32) {
        Store(out + c * stride, _mm256_castsi256_ps(r[c]));
      } else if constexpr (format == Format::kBfloat16) {
        Store(out + 2 * c * stride, _mm256_castsi256_ps(_mm256_slli_epi32(r[c], 16)));
        Store(out + (2 * c + 1) * stride,
              _mm256_castsi256_ps(_mm256_and_si256(r[c], _mm256_set1_epi32(~0xffff))));
      } else {
        Store(out + c * stride, _mm256_cvtph_ps(_mm256_castsi256_si128(r[c])));
        Store(out + (c + 8) * stride, _mm256_cvtph_ps(_mm256_extracti128_si256(r[c], 1)));
      }
    }
  }

 private:
  /// Eight words, which fit.
  static __m128i Shorts(const uint32_t* words) {
    const W w = LoadWords(words);
    return _mm_packs_epi32(_mm256_castsi256_si128(w), _mm256_extracti128_si256(w, 1));
  }
  static __m256i Mask(int64_t n) {
    const __m256i index = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), index);
  }
  template <Format format>
  static F Widen8(__m128i stored) {
    if constexpr (format == Format::kBfloat16) {
      return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(stored), 16));
    } else {
      return _mm256_cvtph_ps(stored);
    }
  }
};

}  // namespace xcomposer::cpu
