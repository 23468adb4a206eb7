#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

namespace xcomposer {

/// The tensor in the host's memory: itself where it lies there, else a copy in memory as `host`
/// says (StageDevice::host_options). Waits for the device.
inline at::Tensor ToHost(const at::Tensor& tensor, const at::TensorOptions& host) {
  if (tensor.is_cpu()) return tensor;
  return at::empty(tensor.sizes(), host.dtype(tensor.dtype())).copy_(tensor);
}

}  // namespace xcomposer
