#include <ATen/ops/empty.h>

#include "kernels/cuda/device_info.h"
#include "pipeline/stage_device.h"
#include "support/cuda_device.h"
#include "xcomposer/error.h"

namespace xcomposer::cuda_testing {
namespace {

/// A tensor's copy back to the host waits for all before it, and tells what went wrong.
std::string WaitForDevice() {
  try {
    at::empty({1}, at::TensorOptions().dtype(at::kInt).device(CudaDevice())).cpu();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

}  // namespace

struct CudaRun::Run {
  std::unique_ptr<StageDevice> device =
      MakeStageDevice("cuda:0", {}, std::make_shared<CorePool>(1));
  std::unique_ptr<StageDevice::Lease> lease = device->Enter();
};

std::string WhyNoDevice() {
  const cuda::RuntimeInfo runtime = cuda::QueryRuntime();
  if (!runtime.devices.empty()) return "";
  return runtime.problem.empty() ? "no CUDA device" : runtime.problem;
}

bool IsEmulated() { return false; }

at::Device CudaDevice() { return at::Device(at::kCUDA, 0); }

// Tests are constructed before they can be skipped.
CudaRun::CudaRun() {
  if (WhyNoDevice().empty()) run_ = std::make_unique<Run>();
}

CudaRun::~CudaRun() {
  if (run_ == nullptr) return;
  EXPECT_EQ(TakeFault(), "");
}

at::Tensor OnDevice(const at::Tensor& host, bool) { return host.to(CudaDevice()); }

at::Tensor DeviceWeights::Load(const std::string& name, at::IntArrayRef shape) {
  return OnDevice(host_.Take(name, shape).to(type_), /*constant=*/true);
}

at::Tensor DeviceWeights::Allocate(at::IntArrayRef shape) {
  return at::empty(shape, at::TensorOptions().dtype(type_).device(CudaDevice()));
}

std::string TakeFault() { return WaitForDevice(); }

}  // namespace xcomposer::cuda_testing
