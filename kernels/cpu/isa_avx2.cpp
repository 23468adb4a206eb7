#include "kernels/cpu/isa_table.h"
#include "kernels/cpu/simd_avx2.h"

namespace xcomposer::cpu {

extern const IsaKernels kAvx2Kernels;
const IsaKernels kAvx2Kernels = IsaTable<Avx2>::kKernels;

}  // namespace xcomposer::cpu
