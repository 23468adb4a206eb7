#pragma once

#include "kernels/cpu/simd_avx2.h"

namespace xcomposer::cpu {

/// Avx2 with products of bytes summed in 32 bits by one instruction (AVX-VNNI, which Intel's
/// processors for desktops and laptops have since 2021, without AVX-512). For integers only.
struct Avx2Vnni : Avx2 {
  static constexpr bool kRoundsToBytes = true;
  static constexpr bool kMultipliesBytes = true;

  // As an instruction, so that compilers need no flag for it, with which they might use it of
  // themselves elsewhere. "vex": AVX-512 VNNI has the same name for another encoding.
  static W DotBytes(W sum, W a, W b) {
    asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(a), "x"(b));
    return sum;
  }
  static W Widened(W sum) { return sum; }
};

}  // namespace xcomposer::cpu
