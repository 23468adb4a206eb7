#include "kernels/cuda/device_info.h"

// Stands in for the CUDA room in a build without nvcc, so that callers need no #ifdef.
namespace xcomposer::cuda {

RuntimeInfo QueryRuntime() {
  RuntimeInfo info;
  info.problem = "this build has no CUDA part (CMake said why when it was configured)";
  return info;
}

}  // namespace xcomposer::cuda
