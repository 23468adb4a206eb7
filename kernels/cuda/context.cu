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
  context.programmatic_launch = major >= 9;
#ifdef XCOMPOSER_CUDA_SM90A
  context.warpgroup_products = major == 9 && minor == 0;
#endif
  return cudaSuccess;
}

}  // namespace xcomposer::cuda
