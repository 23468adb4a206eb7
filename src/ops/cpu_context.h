#pragma once

#include <ATen/core/Tensor.h>

#include "base/check.h"
#include "kernels/cpu/context.h"
#include "kernels/cpu/number.h"

// From tensors to the plain pointers of the CPU kernels.
namespace xcomposer::ops {

/// The threads that the caller has installed, with the best instructions of this processor.
inline cpu::Context CurrentContext() { return {.pool = cpu::CurrentPool()}; }

inline cpu::Format FormatOf(const at::Tensor& t) {
  switch (t.scalar_type()) {
    case at::kFloat:
      return cpu::Format::kFloat32;
    case at::kBFloat16:
      return cpu::Format::kBfloat16;
    case at::kHalf:
      return cpu::Format::kFloat16;
    default:
      throw Error(ErrorKind::kInternal, StrCat("no kernel reads weights of ", t.scalar_type()));
  }
}

inline cpu::StoredVector StoredVectorOf(const at::Tensor& t) {
  return {.data = t.const_data_ptr(), .format = FormatOf(t), .size = t.numel()};
}

inline cpu::StoredMatrix StoredMatrixOf(const at::Tensor& t) {
  return {.data = t.const_data_ptr(),
          .format = FormatOf(t),
          .rows = t.size(0),
          .columns = t.size(1),
          .row_stride = t.stride(0)};
}

}  // namespace xcomposer::ops
