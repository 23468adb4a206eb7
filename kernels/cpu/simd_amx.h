#pragma once

#include "kernels/cpu/simd_avx512_vnni.h"

namespace xcomposer::cpu {

/// Avx512Vnni with Intel's tiles (AMX), as amx_panels.h and amx_integers.h want them. The
/// instructions are written out: the compilers' own functions do not say that they read and write
/// memory.
struct Amx : Avx512VnniOf<Amx> {
  // Codes of x have two bytes, one tile for each.
  static constexpr bool kRoundsToBytes = false;
  static constexpr bool kMultipliesBytes = false;

  static void BeginTiles() {
    // Palette 1: eight tiles, all of 16 rows of 64 bytes.
    struct alignas(64) Shapes {
      uint8_t palette = 1;
      uint8_t start_row = 0;
      uint8_t reserved[14] = {};
      uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    };
    const Shapes shapes;
    static_assert(sizeof(Shapes) == 64);
    asm volatile("ldtilecfg %0" : : "m"(shapes));
  }
  static void EndTiles() { asm volatile("tilerelease" : : : "memory"); }

  template <int tile>
  static void ZeroTile() {
    asm volatile("tilezero %%tmm%c0" : : "i"(tile));
  }
  template <int tile>
  static void LoadTile(const void* place, int64_t stride) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(place), "r"(stride), "i"(tile) : "memory");
  }
  template <int tile>
  static void StoreTile(void* place, int64_t stride) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)"
                 :
                 : "r"(place), "r"(stride), "i"(tile)
                 : "memory");
  }
  template <int sums, int a, int b>
  static void DotBfloats() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(sums), "i"(a), "i"(b));
  }
  template <int sums, int a, int b>
  static void DotSigned() {
    asm volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(sums), "i"(a), "i"(b));
  }
  template <int sums, int a, int b>
  static void DotUnsigned() {
    asm volatile("tdpbuud %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(sums), "i"(a), "i"(b));
  }

  static W JoinPlanes(W high, W low) { return _mm512_add_epi32(_mm512_slli_epi32(high, 8), low); }

  static void TurnTile(const float* tile, float* out, int64_t stride) {
    __m512i r[16];
    XCOMPOSER_UNROLL
    for (int i = 0; i < 16; ++i) r[i] = _mm512_loadu_si512(tile + 16 * i);
    Transpose(r);
    XCOMPOSER_UNROLL
    for (int i = 0; i < 16; ++i) _mm512_storeu_si512(out + i * stride, r[i]);
  }

  template <int kParts>
  static void PackPairs(const float* const (&rows)[16], int64_t count, uint16_t* out) {
    // The upper halves of the words of two vectors.
    const __m512i upper = _mm512_add_epi32(
        _mm512_set1_epi32(0x30001), _mm512_mullo_epi32(_mm512_set1_epi32(0x40004), Counting()));
    __m512i parts[kParts][16];
    XCOMPOSER_UNROLL
    for (int i = 0; i < 16; ++i) {
      F first = count >= 16 ? Load(rows[i]) : LoadN(rows[i], count);
      F second = count >= 32   ? Load(rows[i] + 16)
                 : count <= 16 ? Zero()
                               : LoadN(rows[i] + 16, count - 16);
      XCOMPOSER_UNROLL
      for (int part = 0; part < kParts; ++part) {
        const __m512i first_part = Bfloats(first);
        const __m512i second_part = Bfloats(second);
        parts[part][i] = _mm512_permutex2var_epi16(first_part, upper, second_part);
        first = Rest(first, first_part);
        second = Rest(second, second_part);
      }
    }
    for (auto& part : parts) {
      Transpose(part);
      XCOMPOSER_UNROLL
      for (int i = 0; i < 16; ++i) _mm512_storeu_si512(out + 32 * i, part[i]);
      out += 512;
    }
  }

 private:
  static __m512i Magnitude(__m512i bits) {
    return _mm512_and_si512(bits, _mm512_set1_epi32(0x7fffffff));
  }
  /// The nearest bfloat16, in the upper half; cut off where that would be infinite and x is not.
  static __m512i Bfloats(F x) {
    const __m512i bits = _mm512_castps_si512(x);
    const __m512i magnitude = Magnitude(bits);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i nearest =
        _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    const __mmask16 large = _mm512_cmpge_epi32_mask(magnitude, _mm512_set1_epi32(0x7f7f8000));
    // What is not a number may say so in its lower half only.
    const __mmask16 none = _mm512_cmpgt_epi32_mask(magnitude, _mm512_set1_epi32(0x7f800000));
    const __m512i cut = _mm512_mask_or_epi32(bits, none, bits, _mm512_set1_epi32(0x400000));
    return _mm512_and_si512(_mm512_mask_blend_epi32(large, nearest, cut),
                            _mm512_set1_epi32(~0xffff));
  }
  static __m512i Counting() {
    return _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  }
  /// What is left of x without a part; zero where that is not finite.
  static F Rest(F x, __m512i part) {
    const __mmask16 finite =
        _mm512_cmplt_epi32_mask(Magnitude(part), _mm512_set1_epi32(0x7f800000));
    return _mm512_maskz_sub_ps(finite, x, _mm512_castsi512_ps(part));
  }
};

}  // namespace xcomposer::cpu
