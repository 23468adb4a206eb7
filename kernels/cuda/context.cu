#include "kernels/cuda/context.h"

namespace xcomposer::cuda {

cudaError_t DescribeContext(int device, cudaStream_t stream, Context& context) {
  int major = 0;
  int minor = 0;
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
  status = cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device);
  if (status != cudaSuccess) return status;
  context.stream = stream;
#ifdef XCOMPOSER_CUDA_SM90A
  // Later devices run PTX of compute capability 8.0, whose kernels neither wait for the one before
  // nor have warpgroups.
  context.programmatic_launch = major == 9 && minor == 0;
  context.warpgroup_products = context.programmatic_launch;
#endif
  return cudaSuccess;
}

}  // namespace xcomposer::cuda
