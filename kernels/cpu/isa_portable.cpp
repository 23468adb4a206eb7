#include "kernels/cpu/isa_table.h"
#include "kernels/cpu/simd_portable.h"

namespace xcomposer::cpu {

extern const IsaKernels kPortableKernels;
const IsaKernels kPortableKernels = IsaTable<Portable>::kKernels;

}  // namespace xcomposer::cpu
