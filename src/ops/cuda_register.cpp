#include <torch/library.h>

#include "ops/cuda_library.h"

TORCH_LIBRARY_IMPL(xcomposer, CUDA, m) { xcomposer::ops::RegisterCudaOps(m); }
