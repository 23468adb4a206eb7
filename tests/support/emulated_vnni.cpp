#include "support/emulated_vnni.h"

#include "kernels/cpu/isa_table.h"
#include "kernels/cpu/simd_avx2_vnni.h"

namespace xcomposer::cpu {
namespace {

/// As Intel's manual (volume 2, VPDPBUSD) defines it: bytes of `a` without a sign, of `b` with one.
struct EmulatedVnni : Avx2Vnni {
  static W DotBytes(W sum, W a, W b) {
    const W even = _mm256_madd_epi16(EvenBytes(a), _mm256_srai_epi16(_mm256_slli_epi16(b, 8), 8));
    const W odd = _mm256_madd_epi16(OddBytes(a), _mm256_srai_epi16(b, 8));
    return _mm256_add_epi32(sum, _mm256_add_epi32(even, odd));
  }
};

}  // namespace

const IntegerKernels kEmulatedVnni[2] = {kIntegerKernels<EmulatedVnni, Packing::kInt4>,
                                         kIntegerKernels<EmulatedVnni, Packing::kInt8>};

}  // namespace xcomposer::cpu
