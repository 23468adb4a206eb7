#include "kernels/cuda/context.h"

namespace xcomposer::cuda {

cudaError_t DescribeContext(int device, cudaStream_t stream, Context& context) {
  int major = 0;
  cudaError_t status =
      cudaDeviceGetAttribute(&context.multiprocessors, cudaDevAttrMultiProcessorCount, device);
  if (status != cudaSuccess) return status;
  status = cudaDeviceGetAttribute(&context.block_shared_bytes,
                                  cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  if (status != cudaSuccess) return status;
  status = cudaDeviceGetAttribute(&context.shared_bytes,
                                  cudaDevAttrMaxSharedMemoryPerMultiprocessor, device);
  if (status != cudaSuccess) return status;
  status = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  if (status != cudaSuccess) return status;
  context.stream = stream;
  context.programmatic_launch = major >= 9;
  return cudaSuccess;
}

}  // namespace xcomposer::cuda
