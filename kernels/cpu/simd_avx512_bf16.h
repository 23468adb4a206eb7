#pragma once

#include "kernels/cpu/simd_avx512_vnni.h"

namespace xcomposer::cpu {

/// Avx512Vnni once more.
struct Avx512Bf16 : Avx512VnniOf<Avx512Bf16> {};

/// The same with pairs of bfloat16 in a word, as bfloat_pairs.h wants them.
struct Avx512Pairs : Avx512Bf16 {
  static constexpr bool kMultipliesPairs = true;

  static F Fma(F a, F b, F c) { return _mm512_dpbf16_ps(c, Bfloats(a), Bfloats(b)); }
  static F Pairs(F first, F second) {
    return reinterpret_cast<F>(_mm512_cvtne2ps_pbh(second, first));
  }
  static F PairLanes(F even, F odd) {
    // From sixteen of each, one after the other.
    const __m512i places =
        _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                         21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return _mm512_castsi512_ps(
        _mm512_permutexvar_epi16(places, _mm512_castps_si512(Pairs(even, odd))));
  }

 private:
  static __m512bh Bfloats(F pairs) { return reinterpret_cast<__m512bh>(pairs); }
};

}  // namespace xcomposer::cpu
