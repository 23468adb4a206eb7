#pragma once

#include <cstdint>

#include "kernels/cpu/context.h"
#include "kernels/cpu/number.h"

namespace xcomposer::cpu {

/// Dense rows: x and out (rows, columns); they may be the same memory.
struct NormParams {
  const float* x = nullptr;
  float* out = nullptr;
  int64_t rows = 0;
  int64_t columns = 0;
  float eps = 1e-5f;
};

/// out = x * (1 / sqrt(mean(x^2) + eps)) * weight, the weight last (model specification 7).
void RmsNorm(const NormParams& params, const StoredVector& weight, const Context& context);

/// out = (x - mean) / sqrt(variance + eps) * weight + bias.
void LayerNorm(const NormParams& params, const StoredVector& weight, const StoredVector& bias,
               const Context& context);

}  // namespace xcomposer::cpu
