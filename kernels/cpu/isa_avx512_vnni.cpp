#include "kernels/cpu/isa_table.h"
#include "kernels/cpu/simd_avx512_vnni.h"

namespace xcomposer::cpu {

extern const IsaKernels kAvx512VnniKernels;
const IsaKernels kAvx512VnniKernels = IsaTable<Avx512Vnni, Avx512VnniRows>::kKernels;

}  // namespace xcomposer::cpu
