#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>

#include "ops/linear_weight.h"

namespace xcomposer::ops {

/// A bfloat16 matrix (N, K) as kBf12: the same numbers, bit for bit. Nothing where it has a size
/// that does not fit, or packing does not pay or is not exact (cpu::PackBf12): it is then best kept
/// as it is. On the CPU, with the caller's threads. Throws kInternal for anything but a dense
/// bfloat16 matrix on the CPU.
std::optional<LinearWeight> PackBf12(const at::Tensor& weight);

/// The rows [first, first + rows), multiples of 4, of a kBf12 weight as bfloat16 (rows, K): the
/// numbers that were packed, bit for bit.
at::Tensor UnpackBf12(const LinearWeight& weight, int64_t first, int64_t rows);
/// All of them, with the caller's threads.
at::Tensor UnpackBf12(const LinearWeight& weight);

/// A kBf12 weight of a file, whose outliers may be followed by words of no use. Throws kCheckpoint
/// with `name` where it is not what PackBf12 writes: kernels read it without looking.
LinearWeight CheckedBf12(LinearWeight weight, const std::string& name);

}  // namespace xcomposer::ops
