#include "kernels/cpu/bfloat_pairs_table.h"
#include "kernels/cpu/simd_avx512_bf16.h"

namespace xcomposer::cpu {

extern const PanelKernel kAvx512BfloatPairs;
const PanelKernel kAvx512BfloatPairs = kBfloatPairs<Avx512Pairs>;

}  // namespace xcomposer::cpu
