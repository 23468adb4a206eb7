#pragma once

#include <cstdint>

#include "kernels/cuda/linear.h"

namespace xcomposer::cuda {

constexpr bool IsFloat(LinearResult result) {
  return result == LinearResult::kFloat || result == LinearResult::kAddFloat;
}
constexpr bool IsAdd(LinearResult result) {
  return result == LinearResult::kAddFloat || result == LinearResult::kAddStored;
}

inline bool IsBatch(const LinearParams& p) {
  const LinearBatch& batch = p.batch;
  if (batch.count == 1) return true;
  const bool whole =
      batch.weight_distance % 8 == 0 && batch.x_distance % 8 == 0 && batch.y_distance % 8 == 0;
  return batch.count > 1 && whole && batch.y_distance >= p.weight.rows && p.bias == nullptr;
}

/// What Linear demands of its arguments, whoever multiplies.
inline cudaError_t CheckLinear(const LinearParams& p) {
  const WeightMatrix& weight = p.weight;
  if (p.rows < 0 || weight.rows <= 0 || weight.columns <= 0 || weight.columns % 8 != 0 ||
      weight.row_stride < weight.columns || p.x_stride < weight.columns || p.x_stride % 8 != 0 ||
      p.y_stride < weight.rows || (p.bias != nullptr && IsAdd(p.result)) || !IsBatch(p)) {
    return cudaErrorInvalidValue;
  }
  if (!Matches(weight, p.format)) return cudaErrorNotSupported;
  for (const void* pointer : {p.x, weight.data, p.bias, static_cast<const void*>(p.y)}) {
    if (reinterpret_cast<uintptr_t>(pointer) % 16 != 0) return cudaErrorMisalignedAddress;
  }
  return cudaSuccess;
}

}  // namespace xcomposer::cuda
