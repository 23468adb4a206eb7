#include "kernels/cpu/isa_table.h"
#include "kernels/cpu/simd_avx512_vnni.h"

namespace xcomposer::cpu {

extern const IsaKernels kAvx512VnniKernels;
const IsaKernels kAvx512VnniKernels = IsaTable<Avx512Vnni>::kKernels;

extern const IntegerKernels kPairs8;
const IntegerKernels kPairs8 = kIntegerKernels<Avx512VnniPairs, Packing::kInt8>;

}  // namespace xcomposer::cpu
