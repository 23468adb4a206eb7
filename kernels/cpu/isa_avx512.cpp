#include "kernels/cpu/isa_table.h"
#include "kernels/cpu/simd_avx512.h"

namespace xcomposer::cpu {

extern const IsaKernels kAvx512Kernels;
const IsaKernels kAvx512Kernels = IsaTable<Avx512>::kKernels;

}  // namespace xcomposer::cpu
