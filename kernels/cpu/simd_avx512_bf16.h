#pragma once

#include "kernels/cpu/simd_avx512_vnni.h"

namespace xcomposer::cpu {

/// Avx512Vnni with pairs of bfloat16 in a word, as bfloat_pairs.h wants them.
struct Avx512Pairs : Avx512Vnni {
  static F Fma(F a, F b, F c) { return _mm512_dpbf16_ps(c, Bfloats(a), Bfloats(b)); }
  static F Pairs(F first, F second) {
    return reinterpret_cast<F>(_mm512_cvtne2ps_pbh(second, first));
  }

 private:
  static __m512bh Bfloats(F pairs) { return reinterpret_cast<__m512bh>(pairs); }
};

}  // namespace xcomposer::cpu
