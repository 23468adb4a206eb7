#pragma once

#include <torch/library.h>

namespace xcomposer::ops {

/// Registers the CUDA ops with `m`, a library block of "xcomposer" for the dispatch key CUDA, or
/// for that of a device that stands in for it.
void RegisterCudaOps(torch::Library& m);

// Its parts.
void RegisterCudaLinear(torch::Library& m);
void RegisterCudaRows(torch::Library& m);
void RegisterCudaAttention(torch::Library& m);
void RegisterCudaDecode(torch::Library& m);
void RegisterCudaVision(torch::Library& m);

}  // namespace xcomposer::ops
