#pragma once

#include <cstdint>

#include "kernels/cuda/context.h"
#include "kernels/cuda/number.h"
#include "kernels/cuda/weight_matrix.h"

// Linear layers of 1 to 32 rows - the decoding step of several sequences - where reading the
// weights is still what takes the time. All pointers on 16 bytes.
namespace xcomposer::cuda {

constexpr int64_t kFewRows = 32;

struct FewRowsParams {
  const void* x = nullptr;  ///< (rows, K), as stored, dense
  WeightMatrix weight;      ///< (N, K), K a multiple of 32
  int64_t rows = 0;         ///< 1 to kFewRows
  void* y = nullptr;        ///< (rows, N); see the functions
  Format format = Format::kFloat16;
};

/// y = x weight^T, stored in `format`.
cudaError_t LinearFewRows(const FewRowsParams& params, const Context& context);

/// y = x weight^T in float32: the model's head.
cudaError_t LinearFewRowsToFloat(const FewRowsParams& params, const Context& context);

/// y += x weight^T in float32: wo and w2 add to the residual stream.
cudaError_t LinearFewRowsAdd(const FewRowsParams& params, const Context& context);

struct FewRowsGateUpParams {
  const void* x = nullptr;  ///< (rows, K), as stored, dense
  WeightMatrix w1;          ///< (F, K), K a multiple of 32
  WeightMatrix w3;          ///< (F, K)
  int64_t rows = 0;         ///< 1 to kFewRows
  void* out = nullptr;      ///< (rows, F), as stored
  Format format = Format::kFloat16;
};

/// out = silu(w1 x) * w3 x.
cudaError_t GateUpFewRows(const FewRowsGateUpParams& params, const Context& context);

}  // namespace xcomposer::cuda
