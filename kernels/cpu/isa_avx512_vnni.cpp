#include "kernels/cpu/isa_table.h"
#include "kernels/cpu/simd_avx512_vnni.h"

namespace xcomposer::cpu {

extern const IsaKernels kAvx512VnniKernels;
const IsaKernels kAvx512VnniKernels = IsaTable<Avx512Vnni>::kKernels;

extern const IntegerKernel kPairs8;
const IntegerKernel kPairs8 = kIntegerKernel<Avx512VnniPairs, Packing::kInt8>;
extern const IntegerRowsKernel kPairs8Rows;
const IntegerRowsKernel kPairs8Rows = kIntegerRowsKernel<Avx512VnniPairs, Packing::kInt8>;

}  // namespace xcomposer::cpu
