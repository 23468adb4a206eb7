#include "kernels/cpu/isa_table.h"
#include "kernels/cpu/simd_avx2_vnni.h"

namespace xcomposer::cpu {

extern const IsaKernels kAvx2Kernels;
const IsaKernels kAvx2Kernels = IsaTable<Avx2>::kKernels;

/// What a processor with AVX-VNNI has instead, by IntegerIndex.
extern const IntegerKernels kAvx2VnniIntegers[2];
const IntegerKernels kAvx2VnniIntegers[2] = {kIntegerKernels<Avx2Vnni, Packing::kInt4>,
                                             kIntegerKernels<Avx2Vnni, Packing::kInt8>};

}  // namespace xcomposer::cpu
