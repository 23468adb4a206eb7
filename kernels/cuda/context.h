#pragma once

#include "kernels/cuda/runtime.h"

namespace xcomposer::cuda {

/// Where kernels run. Every launcher takes one; none of them allocates or waits, and all may be
/// captured into a graph. The current device must be the stream's.
struct Context {
  cudaStream_t stream = nullptr;
  int multiprocessors = 1;
  /// Shared memory of one multiprocessor, and what one block of it may have; those of the smallest
  /// device unless DescribeContext says more.
  int shared_bytes = 100 * 1024;
  int block_shared_bytes = 99 * 1024;
  /// Kernels may be launched while the kernel before still runs, and wait for it themselves:
  /// compute capability 9.0, and code that was compiled for it.
  bool programmatic_launch = false;
  /// Products of warpgroups (wgmma) and copies in bulk: likewise.
  bool warpgroup_products = false;
};

/// Fills in what `device` is capable of.
cudaError_t DescribeContext(int device, cudaStream_t stream, Context& context);

}  // namespace xcomposer::cuda
