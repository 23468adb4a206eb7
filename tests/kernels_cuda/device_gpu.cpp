#include <cuda_runtime_api.h>

#include <cstring>
#include <stdexcept>

#include "kernels_cuda/device.h"

namespace xcomposer::cuda {
namespace {

constexpr size_t kGuard = 4096;

void Require(cudaError_t status, const char* what) {
  if (status != cudaSuccess) {
    throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(status));
  }
}

}  // namespace

std::string WhyNoDevice() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess) {
    static_cast<void>(cudaGetLastError());
    return cudaGetErrorString(status);
  }
  return count > 0 ? "" : "no CUDA device";
}

std::vector<Context> Ways() {
  Context context;
  Require(DescribeContext(0, nullptr, context), "DescribeContext");
  std::vector<Context> ways = {context};
  if (context.programmatic_launch) {
    context.programmatic_launch = false;
    ways.push_back(context);
  }
  return ways;
}

void Choose(size_t) {}

std::string Finish(cudaError_t launched) {
  if (launched != cudaSuccess) return std::string("refused: ") + cudaGetErrorString(launched);
  const cudaError_t status = cudaDeviceSynchronize();
  return status == cudaSuccess ? "" : cudaGetErrorString(status);
}

DeviceBytes::DeviceBytes(size_t bytes, Role) : bytes_(bytes) {
  void* base = nullptr;
  Require(cudaMalloc(&base, bytes + 2 * kGuard), "cudaMalloc");
  Require(cudaMemset(base, 0xFF, bytes + 2 * kGuard), "cudaMemset");
  data_ = static_cast<unsigned char*>(base) + kGuard;
}

DeviceBytes::~DeviceBytes() {
  static_cast<void>(cudaFree(static_cast<unsigned char*>(data_) - kGuard));
}

void DeviceBytes::Write(const void* host, size_t bytes) {
  if (bytes > 0) Require(cudaMemcpy(data_, host, bytes, cudaMemcpyHostToDevice), "cudaMemcpy");
}

void DeviceBytes::Read(void* host, size_t bytes) const {
  if (bytes > 0) Require(cudaMemcpy(host, data_, bytes, cudaMemcpyDeviceToHost), "cudaMemcpy");
}

std::string DeviceBytes::CheckGuards() const {
  std::vector<unsigned char> all(bytes_ + 2 * kGuard);
  const auto* base = static_cast<const unsigned char*>(data_) - kGuard;
  Require(cudaMemcpy(all.data(), base, all.size(), cudaMemcpyDeviceToHost), "cudaMemcpy");
  for (size_t i = 0; i < all.size(); ++i) {
    const bool outside = i < kGuard || i >= kGuard + bytes_;
    if (outside && all[i] != 0xFF) {
      return "written outside, " +
             std::to_string(static_cast<long long>(i) - static_cast<long long>(kGuard)) +
             " bytes into an allocation of " + std::to_string(bytes_);
    }
  }
  return "";
}

}  // namespace xcomposer::cuda
