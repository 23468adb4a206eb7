#pragma once

#include <cstdint>
#include <optional>
#include <variant>

#include "kernels/cpu/bf12_matrix.h"
#include "kernels/cpu/context.h"
#include "kernels/cpu/number.h"
#include "kernels/cpu/packed_matrix.h"

namespace xcomposer::cpu {

/// Packed rows of x hold at most this many numbers (32 MiB of floats); more rows are worked on in
/// turns.
inline constexpr int64_t kPackedFloats = int64_t{8} << 20;

struct IsaKernels;

/// y = x W^T + bias, or y += scale * x W^T (+ bias). float32 sums over weights as they are
/// stored; quantised ones are dequantised on the way, exactly.
struct LinearParams {
  const float* x = nullptr;  ///< (rows, K)
  int64_t x_stride = 0;
  int64_t rows = 0;
  std::variant<StoredMatrix, PackedMatrix, Bf12Matrix> weight;  ///< (N, K)
  std::optional<StoredVector> bias = std::nullopt;              ///< (N)
  float* y = nullptr;                                           ///< (rows, N), apart from x
  int64_t y_stride = 0;
  bool accumulate = false;
  float scale = 1.0f;  ///< of the product, not of the bias
};

/// A row's result depends on that row, on the weight and on whether there are few or many rows; not
/// on the count of threads.
void Linear(const LinearParams& params, const Context& context);

/// Linear of both, whose y lie apart. Where they have x in common, few rows of it are prepared once
/// and threads meet once.
void LinearPair(const LinearParams& first, const LinearParams& second, const Context& context);

/// The same with kernels of the caller's choice, for tests.
void Linear(const LinearParams& params, ThreadPool& pool, const IsaKernels& kernels);
void LinearPair(const LinearParams& first, const LinearParams& second, ThreadPool& pool,
                const IsaKernels& kernels);

}  // namespace xcomposer::cpu
