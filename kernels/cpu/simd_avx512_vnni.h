#pragma once

#include "kernels/cpu/simd_avx512.h"

namespace xcomposer::cpu {

/// Avx512 where products of small integers are summed in 32 bits by one instruction.
struct Avx512Vnni : Avx512 {
  static constexpr bool kRoundsToBytes = true;
  static constexpr bool kMultipliesBytes = true;

  static W DotPairs(W sum, W a, W b) { return _mm512_dpwssd_epi32(sum, a, b); }
  static W DotBytes(W sum, W a, W b) { return _mm512_dpbusd_epi32(sum, a, b); }
  static W Widened(W sum) { return sum; }
};

/// Activations of 16 bits, beside tiles that want them so.
struct Avx512VnniPairs : Avx512Vnni {
  static constexpr bool kRoundsToBytes = false;
  static constexpr bool kMultipliesBytes = false;
};

}  // namespace xcomposer::cpu
