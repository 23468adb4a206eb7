#pragma once

// cudaError_t and cudaStream_t, or the emulator's stand-ins for them.
#ifdef XCOMPOSER_EMULATED_CUDA
#include "support/emulator/runtime.h"
#else
#include <cuda_runtime_api.h>
#endif
