#include <cuda_runtime_api.h>

#include "kernels/cuda/device_info.h"

namespace xcomposer::cuda {
namespace {

// Free memory can be asked of the current device only, so the caller's choice is put back
// afterwards.
class CurrentDevice {
 public:
  explicit CurrentDevice(int ordinal) {
    known_ = cudaGetDevice(&previous_) == cudaSuccess;
    status_ = cudaSetDevice(ordinal);
  }
  ~CurrentDevice() {
    if (known_) static_cast<void>(cudaSetDevice(previous_));
  }
  CurrentDevice(const CurrentDevice&) = delete;
  CurrentDevice& operator=(const CurrentDevice&) = delete;

  cudaError_t status() const { return status_; }

 private:
  int previous_ = 0;
  bool known_ = false;
  cudaError_t status_ = cudaSuccess;
};

cudaError_t Describe(int ordinal, DeviceInfo& info) {
  cudaDeviceProp properties{};
  cudaError_t status = cudaGetDeviceProperties(&properties, ordinal);
  if (status != cudaSuccess) return status;
  info.ordinal = ordinal;
  info.name = properties.name;
  info.total_bytes = static_cast<int64_t>(properties.totalGlobalMem);
  info.compute_major = properties.major;
  info.compute_minor = properties.minor;
  CurrentDevice current(ordinal);
  if (current.status() != cudaSuccess) return current.status();
  size_t free_bytes = 0;
  size_t total_bytes = 0;
  status = cudaMemGetInfo(&free_bytes, &total_bytes);
  info.free_bytes = static_cast<int64_t>(free_bytes);
  return status;
}

}  // namespace

RuntimeInfo QueryRuntime() {
  RuntimeInfo info;
  info.built_with_cuda = true;
  if (cudaRuntimeGetVersion(&info.runtime_version) != cudaSuccess) info.runtime_version = 0;
  if (cudaDriverGetVersion(&info.driver_version) != cudaSuccess) info.driver_version = 0;
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess) {
    info.problem = cudaGetErrorString(status);
    // The runtime keeps the last error; without this, the next caller would be told of it.
    static_cast<void>(cudaGetLastError());
    return info;
  }
  for (int ordinal = 0; ordinal < count; ++ordinal) {
    DeviceInfo device;
    const cudaError_t described = Describe(ordinal, device);
    if (described == cudaSuccess) {
      info.devices.push_back(device);
    } else {
      info.problem = "device " + std::to_string(ordinal) + ": " + cudaGetErrorString(described);
      static_cast<void>(cudaGetLastError());
    }
  }
  return info;
}

}  // namespace xcomposer::cuda
