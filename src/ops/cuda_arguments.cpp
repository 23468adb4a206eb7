#include "ops/cuda_arguments.h"

#include "base/check.h"

namespace xcomposer::ops {

cuda::Format CudaFormatOf(const char* op, const at::Tensor& t) {
  switch (t.scalar_type()) {
    case at::kHalf:
      return cuda::Format::kFloat16;
    case at::kBFloat16:
      return cuda::Format::kBfloat16;
    default:
      throw Error(ErrorKind::kInternal, StrCat(op, ": the CUDA kernels read float16 and bfloat16, ",
                                               "found ", t.scalar_type()));
  }
}

cuda::WeightMatrix CudaMatrixOf(const char* op, const at::Tensor& t) {
  const bool half = CudaFormatOf(op, t) == cuda::Format::kFloat16;
  return {.data = t.const_data_ptr(),
          .storage =
              half ? cuda::WeightMatrix::Storage::kFloat16 : cuda::WeightMatrix::Storage::kBfloat16,
          .rows = t.size(0),
          .columns = t.size(1),
          .row_stride = RowStride(t)};
}

// A single row's stride may be any number.
int64_t RowStride(const at::Tensor& t) { return t.size(0) == 1 ? t.size(1) : t.stride(0); }

void RequireType(const char* op, at::ScalarType type,
                 std::initializer_list<const at::Tensor*> tensors) {
  for (const at::Tensor* t : tensors) {
    Check(t->scalar_type() == type, op, ": found ", t->scalar_type(), " where ", type,
          " was expected");
  }
}

void Launched(const char* op, cudaError_t status) {
  switch (status) {
    case cudaSuccess:
      return;
    case cudaErrorMemoryAllocation:
      throw Error(ErrorKind::kCapacity, StrCat(op, ": out of memory on the GPU"));
    case cudaErrorInvalidValue:
    case cudaErrorInvalidConfiguration:
    case cudaErrorMisalignedAddress:
    case cudaErrorNotSupported:
      throw Error(ErrorKind::kInternal,
                  StrCat(op, ": the CUDA kernel does not take these arguments (error ",
                         static_cast<int>(status), ")"));
    default:
      Require(
          status < cudaErrorStreamCaptureUnsupported || status > cudaErrorStreamCaptureWrongThread,
          ErrorKind::kInternal, op, ": the launch cannot be recorded (CUDA error ",
          static_cast<int>(status), ")");
      throw Error(ErrorKind::kDevice,
                  StrCat(op, ": the GPU failed (CUDA error ", static_cast<int>(status), ")"));
  }
}

}  // namespace xcomposer::ops
