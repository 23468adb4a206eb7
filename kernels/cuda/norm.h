#pragma once

#include <cstdint>

#include "kernels/cuda/context.h"
#include "kernels/cuda/number.h"

namespace xcomposer::cuda {

/// x float32 (rows, columns), the residual stream, dense; columns a multiple of 8; all pointers on
/// 16 bytes.
struct NormParams {
  const float* x = nullptr;
  const void* weight = nullptr;  ///< (columns), as stored
  const void* bias = nullptr;    ///< (columns), LayerNorm only
  void* out = nullptr;           ///< (rows, columns), see the functions
  int64_t out_stride = 0;        ///< numbers between its rows, a multiple of 8; 0: dense, which
                                 ///< LayerNorm's always are
  int64_t rows = 0;
  int64_t columns = 0;
  float eps = 1e-5f;
  Format format = Format::kFloat16;  ///< of weight and bias, and of out where it is stored
};

/// out = x / sqrt(mean(x^2) + eps) * weight, stored in `format` (model specification 7).
cudaError_t RmsNorm(const NormParams& params, const Context& context);

/// out = (x - mean) / sqrt(variance + eps) * weight + bias, stored in `format`.
cudaError_t LayerNorm(const NormParams& params, const Context& context);

/// The sum of a residual stream and what a block of layers adds to it, and its norm, in one pass
/// over the stream less than two kernels take.
struct AddNormParams {
  float* x = nullptr;            ///< (rows, columns), changed
  const void* added = nullptr;   ///< (rows, columns), as stored
  const void* weight = nullptr;  ///< (columns), as stored
  const void* bias = nullptr;    ///< (columns), as stored
  void* out = nullptr;           ///< (rows, columns), as stored
  int64_t rows = 0;
  int64_t columns = 0;
  float eps = 1e-5f;
  Format format = Format::kFloat16;
};

/// x += added, and out = LayerNorm of that x.
cudaError_t AddLayerNorm(const AddNormParams& params, const Context& context);

/// The same as LayerNorm with float32 results, which may replace x: the vision tower's first norm
/// begins its residual stream.
cudaError_t LayerNormToFloat(const NormParams& params, const Context& context);

}  // namespace xcomposer::cuda
