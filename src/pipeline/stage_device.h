#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "config/model_config.h"
#include "model/weight_scope.h"
#include "pipeline/core_pool.h"
#include "pipeline/gpu_port.h"
#include "pipeline/pipeline_options.h"
#include "pipeline/step_graphs.h"
#include "placement/device_map.h"

namespace xcomposer {

/// Where a stage computes: what differs between devices outside of the ops. Each stage has its own.
class StageDevice {
 public:
  /// Use of the device by the calling thread, which runs ops meanwhile.
  class Lease {
   public:
    virtual ~Lease() = default;
  };

  virtual ~StageDevice() = default;

  /// Device and type of keys and values.
  virtual at::TensorOptions options() const = 0;

  /// Memory of the host that this device copies to and from without a detour.
  virtual at::TensorOptions host_options() const = 0;

  /// Waits for the device where it is shared.
  virtual std::unique_ptr<Lease> Enter() = 0;

  /// Loads: calls `load` with the source that gives the weights of `host` where this device reads
  /// them. They are all there when this returns. Throws what `load` throws, and for weights that do
  /// not fit the device's types.
  virtual void Load(WeightSource& host, const std::function<void(WeightSource&)>& load) = 0;

  /// How launches on this device are recorded; null where they are not.
  virtual GraphRecorder* recorder() = 0;

  /// The rows as this device hands them on.
  virtual DeviceRows Give(const at::Tensor& rows) = 0;

  /// Rows that another stage's device gave: on this device, ready for the calling thread.
  virtual at::Tensor Take(const DeviceRows& given) = 0;

  /// Opens a way for rows to or from another process; null where rows lie in the host's memory.
  virtual std::unique_ptr<GpuPort> OpenPort() = 0;
};

/// The device that a device map calls `name`, as that of one stage. Throws kDevice where this
/// machine or this build does not have it, kUsage where `options` ask for what it cannot do.
/// `budget`: bytes of a GPU that the stage may take; none: all that is free.
std::unique_ptr<StageDevice> MakeStageDevice(const std::string& name,
                                             const PipelineOptions& options,
                                             const std::shared_ptr<CorePool>& cores,
                                             std::optional<int64_t> budget = std::nullopt);

bool IsCuda(const std::string& device);

/// Throws kDevice, naming what it is, where the kernels for this kind of device cannot compute the
/// model: CUDA takes heads of 64 or 128 numbers, widths that are multiples of 8, no packed weights,
/// no keys and values in int8.
void CheckModelOn(const std::string& device, const ModelConfig& config, bool int8_kv = false);

/// The CUDA device with this number, which exists. In a build without CUDA throws kDevice.
std::unique_ptr<StageDevice> MakeCudaDevice(int number, const PipelineOptions& options,
                                            std::optional<int64_t> budget);

/// The share of a device's memory that this process may have: what it has already and, of what is
/// free, what the budget allows. In bytes but for the result.
double MemoryShare(int64_t own, int64_t free, int64_t total, std::optional<int64_t> budget);

}  // namespace xcomposer
