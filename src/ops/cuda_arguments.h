#pragma once

#include <ATen/core/Tensor.h>

#include <initializer_list>

#include "kernels/cuda/number.h"
#include "kernels/cuda/runtime.h"
#include "kernels/cuda/weight_matrix.h"

// From tensors to the plain pointers of the CUDA kernels.
namespace xcomposer::ops {

/// Of a tensor that CUDA kernels read as stored. Throws kInternal for all but float16 and bfloat16.
cuda::Format CudaFormatOf(const char* op, const at::Tensor& t);

/// A matrix with dense rows in a stored format.
cuda::WeightMatrix CudaMatrixOf(const char* op, const at::Tensor& t);

/// Numbers between the rows of a matrix with dense rows; of a single row, its width.
int64_t RowStride(const at::Tensor& t);

/// All have this type. Throws kInternal.
void RequireType(const char* op, at::ScalarType type,
                 std::initializer_list<const at::Tensor*> tensors);

/// Throws what a launcher's answer means: kCapacity where memory ran out, kInternal where it was
/// called wrongly, kDevice for all else.
void Launched(const char* op, cudaError_t status);

}  // namespace xcomposer::ops
