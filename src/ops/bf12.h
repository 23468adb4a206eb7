#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "ops/linear_weight.h"

namespace xcomposer::ops {

/// A bfloat16 matrix (N, K) as kBf12: the same numbers, bit for bit. Nothing where it has a size
/// that does not fit, or packing does not pay or is not exact (cpu::PackBf12): it is then best kept
/// as it is. On the CPU, with the caller's threads. Throws kInternal for anything but a dense
/// bfloat16 matrix on the CPU.
std::optional<LinearWeight> PackBf12(const at::Tensor& weight);

}  // namespace xcomposer::ops
