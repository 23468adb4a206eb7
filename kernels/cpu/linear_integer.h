#pragma once

#include <optional>
#include <span>

#include "kernels/cpu/kernel_args.h"
#include "kernels/cpu/number.h"
#include "kernels/cpu/packed_matrix.h"
#include "kernels/cpu/thread_pool.h"

namespace xcomposer::cpu {

/// Rows of x that are rounded and worked on in one turn take at most this many inputs.
inline constexpr int64_t kTurnInputs = int64_t{8} << 20;

struct IsaKernels;

/// Linear for a weight that TakesIntegers: rows of x are rounded first, all products are of
/// integers.
struct IntegerProduct {
  const PackedMatrix& matrix;
  const std::optional<StoredVector>& bias;
  LinearKernelArgs args;  ///< all but the bias and the rounded rows
};
void LinearInteger(const IntegerProduct& product, ThreadPool& pool, const IsaKernels& kernels);

/// Whether there are so few rows of x that several weights may share a loop, as in decoding.
bool TakesFewRows(const IntegerProduct& product, const IsaKernels& kernels);

/// LinearInteger of each product: of the same x, which is rounded once, and of the same packing.
void LinearFewIntegers(std::span<const IntegerProduct> products, ThreadPool& pool,
                       const IsaKernels& kernels);

}  // namespace xcomposer::cpu
