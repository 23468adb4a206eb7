#include "kernels/cpu/bfloat_pairs_table.h"
#include "kernels/cpu/simd_avx512_bf16.h"

namespace xcomposer::cpu {

extern const PairKernels kAvx512PairKernels;
const PairKernels kAvx512PairKernels = kPairKernels<Avx512Bf16, Avx512Pairs>;

}  // namespace xcomposer::cpu
