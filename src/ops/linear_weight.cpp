#include "ops/linear_weight.h"

#include <ATen/ops/empty.h>

#include "base/large_pages.h"
#include "kernels/cpu/bf12_matrix.h"
#include "kernels/cpu/packed_matrix.h"
#include "ops/arguments.h"
#include "ops/bf12.h"
#include "ops/cpu_context.h"

namespace xcomposer::ops {

const char* ToString(WeightPacking packing) {
  switch (packing) {
    case WeightPacking::kDense:
      return "dense";
    case WeightPacking::kGptq4:
      return "gptq4";
    case WeightPacking::kGptq8:
      return "gptq8";
    case WeightPacking::kAwq4:
      return "awq4";
    case WeightPacking::kInt4:
      return "int4";
    case WeightPacking::kInt8:
      return "int8";
    case WeightPacking::kBf12:
      return "bf12";
  }
  return "dense";
}

LinearWeight LinearWeight::Packed(c10::string_view packing, const at::Tensor& words,
                                  const at::Tensor& scales, const at::Tensor& zeros, int64_t group,
                                  const std::optional<at::Tensor>& bias) {
  for (const auto known : {WeightPacking::kGptq4, WeightPacking::kGptq8, WeightPacking::kAwq4,
                           WeightPacking::kInt4, WeightPacking::kInt8, WeightPacking::kBf12}) {
    if (packing != ToString(known)) continue;
    LinearWeight weight;
    weight.packing = known;
    weight.data = words;
    weight.scales = scales;
    weight.zeros = zeros;
    weight.group = group;
    weight.bias = bias;
    return weight;
  }
  throw Error(ErrorKind::kInternal, StrCat("no packing of weights is called ", packing));
}

LinearWeight LinearWeight::Packed(c10::string_view packing, at::TensorList parts, int64_t group) {
  Check(parts.size() == 3, "a packed weight of ", parts.size(),
        " tensors, expected words, scales and zeros");
  return Packed(packing, parts[0], parts[1], parts[2], group, std::nullopt);
}

int64_t LinearWeight::outputs() const {
  switch (packing) {
    case WeightPacking::kDense:
      return data.size(0);
    case WeightPacking::kGptq4:
    case WeightPacking::kGptq8:
      return data.size(1);
    case WeightPacking::kInt4:
    case WeightPacking::kInt8:
      return data.size(0) * cpu::kPanelOutputs;
    case WeightPacking::kBf12:
      return data.size(0) * cpu::kBf12Rows;
    case WeightPacking::kAwq4:
      break;
  }
  return data.size(1) * 8;
}

int64_t LinearWeight::inputs() const {
  switch (packing) {
    case WeightPacking::kDense:
      return data.size(1);
    case WeightPacking::kGptq4:
    case WeightPacking::kGptq8:
      return data.size(0) * 32 / bits();
    case WeightPacking::kInt4:
    case WeightPacking::kInt8:
      return data.size(1) * 32 / bits();
    case WeightPacking::kBf12:
      return data.size(1) * cpu::kBf12Block;
    case WeightPacking::kAwq4:
      break;
  }
  return data.size(0);
}

int64_t LinearWeight::nbytes() const {
  size_t bytes = data.nbytes();
  if (scales.defined()) bytes += scales.nbytes();
  if (zeros.defined()) bytes += zeros.nbytes();
  if (bias) bytes += bias->nbytes();
  return static_cast<int64_t>(bytes);
}

at::Tensor EmptyWeight(at::IntArrayRef shape, at::ScalarType type) {
  at::Tensor weight = at::empty(shape, type);
  AskForLargePages(weight.mutable_data_ptr(), weight.nbytes());
  return weight;
}

at::Tensor Dequantised(const LinearWeight& weight) {
  if (weight.packing == WeightPacking::kDense) return weight.data.to(at::kFloat);
  CheckPackedWeight("dequantised", weight);
  if (weight.packing == WeightPacking::kBf12) return UnpackBf12(weight).to(at::kFloat);
  at::Tensor out = at::empty({weight.outputs(), weight.inputs()}, at::kFloat);
  cpu::Dequantise(PackedMatrixOf(weight), out.mutable_data_ptr<float>());
  return out;
}

}  // namespace xcomposer::ops
