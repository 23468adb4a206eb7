#pragma once

#include "kernels/cpu/simd.h"

namespace xcomposer::cpu {

/// Four floats in the compiler's own vector type; runs everywhere. There is no fused multiply-add.
struct Portable {
  static constexpr int64_t kWidth = 4;
  static constexpr int kRows = 4;
  static constexpr int kVectors = 2;
  static constexpr int kIntegerRows = 4;
  static constexpr int kIntegerVectors = 2;
  static constexpr bool kJoinsLines = false;
  static constexpr bool kRoundsToBytes = false;
  static constexpr bool kMultipliesBytes = false;
  static constexpr bool kMultipliesPairs = false;

  typedef float F __attribute__((vector_size(16)));
  typedef int32_t I __attribute__((vector_size(16)));
  typedef uint32_t U __attribute__((vector_size(16)));

  static F Zero() { return F{0, 0, 0, 0}; }
  static F Set(float x) { return F{x, x, x, x}; }
  static F Load(const float* p) {
    F f;
    std::memcpy(&f, p, sizeof(f));
    return f;
  }
  static F LoadN(const float* p, int64_t n) {
    F f = Zero();
    std::memcpy(&f, p, static_cast<size_t>(n) * sizeof(float));
    return f;
  }
  static void Store(float* p, F f) { std::memcpy(p, &f, sizeof(f)); }
  static void StoreN(float* p, F f, int64_t n) {
    std::memcpy(p, &f, static_cast<size_t>(n) * sizeof(float));
  }
  template <Format format>
  static F LoadAs(const typename ElementOf<format>::Type* p) {
    return F{Widen<Portable, format>(p), Widen<Portable, format>(p + 1),
             Widen<Portable, format>(p + 2), Widen<Portable, format>(p + 3)};
  }
  template <Format format>
  static F LoadAsN(const typename ElementOf<format>::Type* p, int64_t n) {
    F f = Zero();
    for (int64_t i = 0; i < n; ++i) f[i] = Widen<Portable, format>(p + i);
    return f;
  }
  // Of bfloat16, even and odd numbers, as in the other sets (bf12_rows.h).
  template <Format format>
  static F LoadFirst(const typename ElementOf<format>::Type* p) {
    if constexpr (format == Format::kBfloat16) {
      return F{Widen<Portable, format>(p), Widen<Portable, format>(p + 2),
               Widen<Portable, format>(p + 4), Widen<Portable, format>(p + 6)};
    } else {
      return LoadAs<format>(p);
    }
  }
  template <Format format>
  static F LoadSecond(const typename ElementOf<format>::Type* p) {
    if constexpr (format == Format::kBfloat16) {
      return LoadFirst<format>(p + 1);
    } else {
      return LoadAs<format>(p + kWidth);
    }
  }
  template <Format format>
  static void StorePairs(const float* x, float* out) {
    F first = Load(x);
    F second = Load(x + kWidth);
    if constexpr (format == Format::kBfloat16) {
      first = F{x[0], x[2], x[4], x[6]};
      second = F{x[1], x[3], x[5], x[7]};
    }
    Store(out, first);
    Store(out + kWidth, second);
  }
  static F Keep(F f) { return f; }
  static F Add(F a, F b) { return a + b; }
  static F Sub(F a, F b) { return a - b; }
  static F Mul(F a, F b) { return a * b; }
  static F Div(F a, F b) { return a / b; }
  static F Fma(F a, F b, F c) { return a * b + c; }
  static F Max(F a, F b) { return Choose(a > b, a, b); }
  static F Min(F a, F b) { return Choose(a < b, a, b); }
  static F Less(F a, F b, F x, F y) { return Choose(a < b, x, y); }
  static F Round(F a) {
    // Adding and taking away 1.5 * 2^23 leaves the nearest whole number, for |a| < 2^22.
    const F magic = Set(12582912.0f);
    return (a + magic) - magic;
  }
  static F PowerOfTwo(F n) {
    const U bits = (reinterpret_cast<U>(__builtin_convertvector(n, I)) + 127u) << 23;
    F f;
    std::memcpy(&f, &bits, sizeof(f));
    return f;
  }
  static float Sum(F a) { return (a[0] + a[2]) + (a[1] + a[3]); }
  static F SumFours(const F (&a)[1][4]) {
    return F{Sum(a[0][0]), Sum(a[0][1]), Sum(a[0][2]), Sum(a[0][3])};
  }
  static float Largest(F a) {
    const float even = a[0] > a[2] ? a[0] : a[2];
    const float odd = a[1] > a[3] ? a[1] : a[3];
    return even > odd ? even : odd;
  }
  static XCOMPOSER_INLINE void Prefetch(const void* p) {
    __builtin_prefetch(p);
    asm volatile("");  // else the compiler drops calls and loops that do nothing else
  }

  static void PackRows(const float* const (&rows)[kRows], float* out, int64_t stride) {
    for (int64_t c = 0; c < 8; ++c) {
      for (int r = 0; r < kRows; ++r) out[c * stride + r] = rows[r][c];
    }
  }
  typedef U W;

  static W LoadWords(const uint32_t* p) { return LoadWordsN(p, kWidth); }
  static W LoadWordsN(const uint32_t* p, int64_t n) {
    W words = {0, 0, 0, 0};
    std::memcpy(&words, p, static_cast<size_t>(n) * sizeof(uint32_t));
    return words;
  }
  static void StoreWords(uint32_t* p, W w) { std::memcpy(p, &w, sizeof(w)); }
  static W SetWords(uint32_t n) { return W{n, n, n, n}; }
  static W KeepWords(W w) { return w; }
  static W RoundToWords(F f) { return reinterpret_cast<W>(__builtin_convertvector(Round(f), I)); }
  static F FromWords(W w) { return __builtin_convertvector(reinterpret_cast<I>(w), F); }
  static W EvenBytes(W w) { return w & 0xff00ffu; }
  static W OddBytes(W w) { return w >> 8 & 0xff00ffu; }
  static W LowNibbles(W w) { return w & 0x0f0f0f0fu; }
  static W HighNibbles(W w) { return w >> 4 & 0x0f0f0f0fu; }
  static W DotPairs(W sum, W a, W b) {
    return sum + Signed<16>(a, 0) * Signed<16>(b, 0) + Signed<16>(a, 1) * Signed<16>(b, 1);
  }
  static W DotBytes(W sum, W a, W b) {
    for (int i = 0; i < 4; ++i) sum += (a >> (8 * i) & 255u) * Signed<8>(b, i);
    return sum;
  }
  static W Widened(W sum) { return sum; }
  static W SubProduct(W sum, W a, W b) { return sum - a * b; }
  static W SubShortProduct(W sum, W a, W b) { return SubProduct(sum, a, b); }
  template <int kBits>
  static F Field(W words, int i) {
    const W field = (words >> static_cast<uint32_t>(kBits * i)) & ((1u << kBits) - 1u);
    return __builtin_convertvector(reinterpret_cast<I>(field), F);
  }
  template <int kBits>
  static F PlacedField(W words, int i) {
    if (kBits * (i + 1) == 32) return Field<kBits>(words, i);
    const W field = words & (((1u << kBits) - 1u) << static_cast<uint32_t>(kBits * i));
    return __builtin_convertvector(reinterpret_cast<I>(field), F);
  }
  static void TurnEights(const float* const (&rows)[8], float* out) {
    for (int64_t c = 0; c < kWidth; ++c) {
      for (int r = 0; r < 8; ++r) out[c * 8 + r] = rows[r][c];
    }
  }
  static W AddWords(W a, W b) { return a + b; }
  static int32_t SumWords(W a) { return static_cast<int32_t>(a[0] + a[1] + a[2] + a[3]); }
  template <int kBits>
  static W Raised(W w) {
    return w << static_cast<uint32_t>(kBits);
  }
  static W WithNibble(W a, W b) { return a | (b & 0xf00000u); }
  static F PackedNumbers(W w) {
    const W fields = reinterpret_cast<W>(reinterpret_cast<I>(w) >> 4) & 0x87ff0000u;
    return reinterpret_cast<F>(fields | (112u << 23));
  }
  static W PackedPair(W even, W odd) {
    const W low = reinterpret_cast<W>(reinterpret_cast<I>(even) >> 20) & 0x87ffu;
    return low | (reinterpret_cast<W>(reinterpret_cast<I>(odd) >> 4) & 0x87ff0000u);
  }
  static constexpr int64_t kCodeWords = 8;
  template <bool kApart>
  static void StoreBytes(const uint32_t* words, uint32_t* out) {
    for (int i = 0; i < 2; ++i) {
      const uint32_t* w = words + (kApart ? i : 4 * i);
      const int step = kApart ? 2 : 1;
      out[i] =
          (w[0] & 255u) | (w[step] & 255u) << 8 | (w[2 * step] & 255u) << 16 | w[3 * step] << 24;
    }
  }
  static void StoreShorts(const uint32_t* words, uint32_t* out) {
    for (int i = 0; i < 4; ++i) {
      const uint32_t* w = words + i / 2 * 4 + i % 2;
      out[i] = (w[0] & 0xffffu) | w[2] << 16;
    }
  }
  template <bool kAwq>
  static W NibbleWords(const uint32_t* row, int64_t n, int64_t) {
    constexpr W kAwqLow = {0, 16, 4, 20};
    constexpr W kLow = {0, 4, 8, 12};
    const uint32_t upper = n % 8 == 0 ? 0 : kAwq ? 8 : 16;
    const uint32_t word = row[n / 8];
    return W{word, word, word, word} >> ((kAwq ? kAwqLow : kLow) + upper) & 15u;
  }
  static W ByteWords(const uint8_t* p, int64_t) { return W{p[0], p[1], p[2], p[3]}; }
  static F SignedBytes(const int8_t* p) {
    return F{static_cast<float>(p[0]), static_cast<float>(p[1]), static_cast<float>(p[2]),
             static_cast<float>(p[3])};
  }

  template <Format format>
  static constexpr int64_t kPackColumns = 8;
  template <Format format>
  static void PackWeights(const typename ElementOf<format>::Type* const (&rows)[kWidth], float* out,
                          int64_t stride) {
    for (int64_t c = 0; c < kPackColumns<format>; ++c) {
      for (int64_t r = 0; r < kWidth; ++r)
        out[c * stride + r] = Widen<Portable, format>(rows[r] + c);
    }
  }

 private:
  /// Bits i * kBits and on of each word with their sign, in two's complement.
  template <int kBits>
  static W Signed(W words, int i) {
    const I up = reinterpret_cast<I>(words << static_cast<uint32_t>(32 - kBits * (i + 1)));
    return reinterpret_cast<W>(up >> (32 - kBits));
  }
  static F Choose(I mask, F x, F y) {
    I a;
    I b;
    std::memcpy(&a, &x, sizeof(a));
    std::memcpy(&b, &y, sizeof(b));
    const I bits = (mask & a) | (~mask & b);
    F f;
    std::memcpy(&f, &bits, sizeof(f));
    return f;
  }
};

}  // namespace xcomposer::cpu
