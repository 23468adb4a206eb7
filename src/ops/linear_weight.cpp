#include "ops/linear_weight.h"

#include <ATen/ops/empty.h>

#include "kernels/cpu/packed_matrix.h"
#include "ops/arguments.h"
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
  }
  return "dense";
}

const char* LinearWeight::OpName() const {
  if (!rounds_x || packing == WeightPacking::kAwq4) return ToString(packing);
  return packing == WeightPacking::kGptq8 ? "int8" : "int4";
}

LinearWeight LinearWeight::Packed(c10::string_view packing, const at::Tensor& words,
                                  const at::Tensor& scales, const at::Tensor& zeros, int64_t group,
                                  const std::optional<at::Tensor>& bias) {
  for (const auto known : {WeightPacking::kGptq4, WeightPacking::kGptq8, WeightPacking::kAwq4}) {
    for (const bool rounds_x : {false, true}) {
      LinearWeight weight;
      weight.packing = known;
      weight.group = group;
      weight.rounds_x = rounds_x;
      if (packing != weight.OpName()) continue;
      weight.data = words;
      weight.scales = scales;
      weight.zeros = zeros;
      weight.bias = bias;
      return weight;
    }
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

at::Tensor Dequantised(const LinearWeight& weight) {
  if (weight.packing == WeightPacking::kDense) return weight.data.to(at::kFloat);
  CheckPackedWeight("dequantised", weight);
  at::Tensor out = at::empty({weight.outputs(), weight.inputs()}, at::kFloat);
  cpu::Dequantise(PackedMatrixOf(weight), out.mutable_data_ptr<float>());
  return out;
}

}  // namespace xcomposer::ops
