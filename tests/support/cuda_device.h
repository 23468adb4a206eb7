#pragma once

#include <ATen/core/Tensor.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <string>

#include "model/weight_scope.h"

/// Where the tests of the CUDA ops run: a GPU (cuda_device_gpu.cpp), or a device of LibTorch's
/// whose memory is the CUDA emulator's (cuda_device_emulated.cpp). There the ops of
/// src/ops/cuda_*.cpp run through the same dispatcher, and their kernels under the emulator: a host
/// pointer that comes to a kernel, a shape or stride that leads outside - what a GPU would answer
/// with an illegal address or with nonsense - is a fault. LibTorch's own ops go by way of the CPU.
/// For one thread.
namespace xcomposer::cuda_testing {

/// Empty if ops can run; otherwise why not.
std::string WhyNoDevice();

bool IsEmulated();

at::Device CudaDevice();

/// While this lives, CUDA ops run; at its end the test fails with what went wrong.
class CudaRun {
 public:
  CudaRun();
  ~CudaRun();

 private:
  struct Run;
  std::unique_ptr<Run> run_;
};

/// Another source's weights on the device, as `type`, in memory that no kernel may write.
class DeviceWeights final : public WeightSource {
 public:
  bool stacks() const override { return true; }

  DeviceWeights(WeightSource& host, at::ScalarType type) : host_(host), type_(type) {}

  at::Tensor Allocate(at::IntArrayRef shape) override;

 private:
  at::Tensor Load(const std::string& name, at::IntArrayRef shape) override;

  WeightSource& host_;
  at::ScalarType type_;
};

/// `host` on the device; as weights are, if `constant`.
at::Tensor OnDevice(const at::Tensor& host, bool constant = false);

/// Waits, and returns what went wrong since the last call, "" if nothing did.
std::string TakeFault();

/// Skips by name where there is no device; XCOMPOSER_REQUIRE_GPU=1 makes that a failure.
inline void RequireDevice() {
  const std::string problem = WhyNoDevice();
  if (problem.empty()) return;
  const char* required = std::getenv("XCOMPOSER_REQUIRE_GPU");
  if (required != nullptr && std::string(required) == "1") {
    FAIL() << "XCOMPOSER_REQUIRE_GPU is set, but there is no device: " << problem;
  }
  GTEST_SKIP() << "no device: " << problem;
}

}  // namespace xcomposer::cuda_testing
