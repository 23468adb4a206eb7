#pragma once

#include "kernels/cpu/simd_avx512.h"

namespace xcomposer::cpu {

/// Avx512 where products of small integers are summed in 32 bits by one instruction. The sums are
/// the same.
struct Avx512Vnni : Avx512 {
  static W DotPairs(W sum, W a, W b) { return _mm512_dpwssd_epi32(sum, a, b); }
  static W DotBytes(W sum, W a, W b) { return _mm512_dpbusd_epi32(sum, a, b); }
  static W Widened(W sum) { return sum; }
};

}  // namespace xcomposer::cpu
