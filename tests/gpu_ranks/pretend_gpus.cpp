// GPUs that only say so: MakeCudaDevice and QueryRuntime of a machine with four, whose memory is
// the host's and whose kernels are the CPU's. What a GPU would compute later is not there before
// somebody has waited for it: rows that a stage gives on are NaN until then.

#include <ATen/ops/empty.h>

#include <array>
#include <limits>
#include <string>
#include <utility>

#include "kernels/cuda/device_info.h"
#include "pipeline/stage_device.h"

namespace xcomposer {
namespace {

constexpr int kGpus = 4;

/// Its own address is its stream.
class PretendPort final : public GpuPort {
 public:
  explicit PretendPort(int number) : number_(number) {}

  std::string gpu() const override { return "GPU " + std::to_string(number_); }
  CudaStream stream() const override { return const_cast<PretendPort*>(this); }
  void* scratch() const override { return scratch_.data(); }
  std::unique_ptr<Use> Enter() override { return std::make_unique<Use>(); }
  DeviceRows Allocate(int64_t bytes) override {
    return {at::empty({bytes / 4}, at::kFloat), [](const at::Tensor&) {}};
  }

 private:
  const int number_;
  mutable std::array<std::byte, 8> scratch_{};
};

class PretendGpu final : public StageDevice {
 public:
  explicit PretendGpu(int number) : number_(number) {}

  at::TensorOptions options() const override { return at::kCPU; }
  at::TensorOptions host_options() const override { return at::kCPU; }
  std::unique_ptr<Lease> Enter() override { return std::make_unique<Lease>(); }
  void Load(WeightSource& host, const std::function<void(WeightSource&)>& load) override {
    load(host);
  }
  GraphRecorder* recorder() override { return nullptr; }
  DeviceRows Give(const at::Tensor& rows) override {
    at::Tensor given = at::empty(rows.sizes(), at::kFloat);
    given.fill_(std::numeric_limits<float>::quiet_NaN());
    return {given, [computed = rows.clone()](const at::Tensor& late) { late.copy_(computed); }};
  }
  at::Tensor Take(const DeviceRows& given) override {
    given.wait(given.rows);
    return given.rows;
  }
  std::unique_ptr<GpuPort> OpenPort() override { return std::make_unique<PretendPort>(number_); }

 private:
  const int number_;
};

}  // namespace

std::unique_ptr<StageDevice> MakeCudaDevice(int number, const PipelineOptions&,
                                            std::optional<int64_t>) {
  return std::make_unique<PretendGpu>(number);
}

cuda::RuntimeInfo cuda::QueryRuntime() {
  RuntimeInfo info;
  info.built_with_cuda = true;
  for (int number = 0; number < kGpus; ++number) {
    DeviceInfo device;
    device.ordinal = number;
    device.name = "pretended";
    info.devices.push_back(std::move(device));
  }
  return info;
}

}  // namespace xcomposer
