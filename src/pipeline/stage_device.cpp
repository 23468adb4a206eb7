#include "pipeline/stage_device.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "config/quantization.h"
#include "kernels/cuda/device_info.h"
#include "ops/activations.h"
#include "placement/footprint.h"

namespace xcomposer {
namespace {

class CpuDevice final : public StageDevice {
 public:
  CpuDevice(std::shared_ptr<CorePool> cores, const PipelineOptions& options)
      : cores_(std::move(cores)),
        activations_(options.activations),
        kv_type_(options.int8_kv ? at::kChar : at::kFloat) {}

  at::TensorOptions options() const override { return at::TensorOptions(at::kCPU).dtype(kv_type_); }
  at::TensorOptions host_options() const override { return at::kCPU; }
  std::unique_ptr<Lease> Enter() override { return std::make_unique<Cores>(*cores_, activations_); }
  void Load(WeightSource& host, const std::function<void(WeightSource&)>& load) override {
    const Cores cores(*cores_, activations_);  // weights that change their format are worked on
    load(host);
  }
  GraphRecorder* recorder() override { return nullptr; }
  DeviceRows Give(const at::Tensor& rows) override {
    return {rows, [](const at::Tensor&) {}};
  }
  at::Tensor Take(const DeviceRows& given) override { return given.rows.cpu(); }
  std::unique_ptr<GpuPort> OpenPort() override { return nullptr; }

 private:
  struct Cores final : Lease {
    Cores(CorePool& cores, cpu::Activations activations) : lease(cores), scope(activations) {}
    CorePool::Lease lease;
    ops::ActivationsScope scope;
  };

  std::shared_ptr<CorePool> cores_;
  cpu::Activations activations_;
  at::ScalarType kv_type_;
};

/// What stands in the way of computing on a GPU with these options.
void CheckCudaOptions(const PipelineOptions& options) {
  Require(options.storage != WeightStorage::kFloat32, ErrorKind::kUsage,
          "CUDA devices compute with float16 or bfloat16 weights; use --dtype fp16, bf16 or auto");
  Require(!options.quantise, ErrorKind::kUsage,
          "there are no CUDA kernels for int8 and int4 weights yet; leave --weights out");
  Require(!options.pack_bf12, ErrorKind::kUsage,
          "there are no CUDA kernels for bf12 weights; leave --weights out");
  Require(options.activations == cpu::Activations::kFloat32, ErrorKind::kUsage,
          "activations of CUDA devices have the type of the weights; leave --activations out");
}

}  // namespace

bool IsCuda(const std::string& device) { return device.rfind("cuda:", 0) == 0; }

void CheckModelOn(const std::string& device, const ModelConfig& config, bool int8_kv) {
  if (!IsCuda(device)) return;
  if (int8_kv) RefuseInt8Kv(device);
  const auto require = [&](bool holds, const auto&... found) {
    if (holds) return;
    throw Error(
        ErrorKind::kDevice,
        StrCat("the CUDA kernels cannot compute this model: ", found..., "; run it on the CPU"),
        {{"device", device}});
  };
  require(!config.quantization, "its weights are quantised (", ToString(config.quantization),
          "), and they read 16-bit weights only");
  const auto is_head = [](int64_t dim) { return dim == 64 || dim == 128; };
  require(is_head(config.head_dim()), "it has heads of ", config.head_dim(),
          " numbers, expected 64 or 128");
  const int64_t vision_dim = config.vision.hidden_size / std::max<int64_t>(1, config.vision.heads);
  require(is_head(vision_dim), "its vision tower has heads of ", vision_dim,
          " numbers, expected 64 or 128");
  for (const int64_t width : {config.hidden_size, config.intermediate_size,
                              config.vision.hidden_size, config.vision.intermediate_size}) {
    require(width % 8 == 0, "it has a width of ", width, ", expected a multiple of 8");
  }
}

std::unique_ptr<StageDevice> MakeStageDevice(const std::string& name,
                                             const PipelineOptions& options,
                                             const std::shared_ptr<CorePool>& cores,
                                             std::optional<int64_t> budget) {
  if (!IsCuda(name)) return std::make_unique<CpuDevice>(cores, options);
  CheckCudaOptions(options);
  const int number = std::stoi(name.substr(name.find(':') + 1));
  const cuda::RuntimeInfo runtime = cuda::QueryRuntime();
  const bool found =
      std::any_of(runtime.devices.begin(), runtime.devices.end(),
                  [number](const cuda::DeviceInfo& device) { return device.ordinal == number; });
  if (!found) {
    throw Error(
        ErrorKind::kDevice,
        StrCat("this machine has no ", name, ": ",
               runtime.problem.empty() ? StrCat("it has ", runtime.devices.size(), " CUDA devices")
                                       : runtime.problem),
        {{"device", name}});
  }
  return MakeCudaDevice(number, options, budget);
}

double MemoryShare(int64_t own, int64_t free, int64_t total, std::optional<int64_t> budget) {
  const int64_t more = std::clamp<int64_t>(budget.value_or(free), 0, std::max<int64_t>(0, free));
  return std::min(
      1.0, static_cast<double>(own + more) / static_cast<double>(std::max<int64_t>(1, total)));
}

}  // namespace xcomposer
