#pragma once

#include <optional>

#include "kernels/cpu/kernel_args.h"
#include "kernels/cpu/number.h"
#include "kernels/cpu/packed_matrix.h"
#include "kernels/cpu/thread_pool.h"

namespace xcomposer::cpu {

struct IsaKernels;

/// Linear for a weight that TakesIntegers: rows of x are rounded first, all products are of
/// integers. `args` holds all but the bias and the rounded rows.
void LinearInteger(const PackedMatrix& matrix, const std::optional<StoredVector>& bias,
                   LinearKernelArgs args, ThreadPool& pool, const IsaKernels& kernels);

}  // namespace xcomposer::cpu
