#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "transport/nccl_api.h"
#include "transport/transport.h"

namespace xcomposer {

/// Activations in a GPU's memory, handed on between two stages before they are computed: `wait`
/// makes the receiver's work follow the giver's.
struct DeviceRows {
  at::Tensor rows;  ///< float32: (T, C), or its numbers in one row after another process gave them

  /// Lets the work that the calling thread starts from here on wait for the rows, and keeps their
  /// memory from being used again before that work is done.
  std::function<void(const at::Tensor& rows)> wait;
};

/// The rows as stages hand them on.
inline Payload OnDevice(DeviceRows given) {
  auto* const data = static_cast<std::byte*>(given.rows.data_ptr());
  const auto size = static_cast<int64_t>(given.rows.nbytes());
  return {std::make_shared<DeviceRows>(std::move(given)), data, size, /*on_device=*/true};
}

/// What OnDevice made of the rows; of a payload that is on a device.
inline const DeviceRows& DeviceRowsIn(const Payload& payload) {
  return *static_cast<const DeviceRows*>(payload.owner.get());
}

/// A GPU's side of a way to or from another process.
class GpuPort {
 public:
  virtual ~GpuPort() = default;

  /// Names the GPU among those of all machines.
  virtual std::string gpu() const = 0;

  virtual CudaStream stream() const = 0;  ///< the transfers' own
  virtual void* scratch() const = 0;      ///< 8 bytes of the GPU's

  /// Uses the GPU's memory for transfers.
  class Use {
   public:
    virtual ~Use() = default;
  };
  /// The GPU and the stream are the calling thread's current ones while this lives.
  virtual std::unique_ptr<Use> Enter() = 0;

  /// Memory for `bytes` bytes of float32 that another process sends. Called within Enter.
  virtual DeviceRows Allocate(int64_t bytes) = 0;
};

}  // namespace xcomposer
