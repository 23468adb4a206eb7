#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "kernels/cuda/linear.h"

namespace xcomposer::ops {

/// Kernels read 8 numbers at a time along the sum: zeros up to the next multiple of that. Of the
/// shipped checkpoints only the patch embedding (588 inputs) needs them, once per picture.
at::Tensor PaddedColumns(const at::Tensor& t);

/// One product y = x W^T (+ bias) on CUDA, into memory of the caller's: y (..., N) dense, as
/// `result` says. Which kernel does it depends on the shapes alone.
struct CudaProduct {
  const char* op;
  const at::Tensor& x;       ///< (..., K) dense, or a matrix whose rows may lie apart; float32 is
                             ///< rounded to the weight's type first
  const at::Tensor& weight;  ///< (N, K)
  std::optional<at::Tensor> bias;
  cuda::LinearResult result = cuda::LinearResult::kStored;
};
void Multiply(const CudaProduct& product, at::Tensor& y);

}  // namespace xcomposer::ops
