#pragma once

#include <ATen/core/Tensor.h>

#include "base/check.h"
#include "kernels/cpu/bf12_matrix.h"
#include "kernels/cpu/context.h"
#include "kernels/cpu/number.h"
#include "kernels/cpu/packed_matrix.h"
#include "ops/activations.h"
#include "ops/linear_weight.h"

// From tensors to the plain pointers of the CPU kernels.
namespace xcomposer::ops {

/// The threads and activations that the caller has installed, with the best instructions of this
/// processor.
inline cpu::Context CurrentContext() {
  return {.pool = cpu::CurrentPool(), .activations = CurrentActivations()};
}

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

inline cpu::Packing PackingOf(WeightPacking packing) {
  switch (packing) {
    case WeightPacking::kDense:
      break;
    case WeightPacking::kGptq4:
      return cpu::Packing::kGptq4;
    case WeightPacking::kGptq8:
      return cpu::Packing::kGptq8;
    case WeightPacking::kAwq4:
      return cpu::Packing::kAwq4;
    case WeightPacking::kInt4:
      return cpu::Packing::kInt4;
    case WeightPacking::kInt8:
      return cpu::Packing::kInt8;
    case WeightPacking::kBf12:
      break;
  }
  throw Error(ErrorKind::kInternal,
              StrCat("a weight that is ", ToString(packing), " has no packing of codes"));
}

/// Of a quantised weight that CheckPackedWeight has passed.
inline cpu::PackedMatrix PackedMatrixOf(const LinearWeight& weight) {
  return {.packing = PackingOf(weight.packing),
          .words = static_cast<const uint32_t*>(weight.data.const_data_ptr()),
          .zeros = static_cast<const uint32_t*>(weight.zeros.const_data_ptr()),
          .scales = weight.scales.const_data_ptr(),
          .rows = weight.outputs(),
          .columns = weight.inputs(),
          .group = weight.group};
}

/// Of a weight of kBf12 that CheckPackedWeight has passed.
inline cpu::Bf12Matrix Bf12MatrixOf(const LinearWeight& weight) {
  return {.words = static_cast<const uint32_t*>(weight.data.const_data_ptr()),
          .scales = weight.scales.const_data_ptr<float>(),
          .outliers = weight.zeros.const_data_ptr<int32_t>(),
          .rows = weight.outputs(),
          .columns = weight.inputs()};
}

}  // namespace xcomposer::ops
