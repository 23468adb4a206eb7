#pragma once

#include "kernels/cpu/isa_kernels.h"

namespace xcomposer::cpu {

#if defined(__x86_64__)
/// The kernels of Avx2Vnni with its instruction in code for AVX2, by IntegerIndex.
extern const IntegerKernels kEmulatedVnni[2];
#endif

}  // namespace xcomposer::cpu
