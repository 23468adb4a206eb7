#include "ops/quantise.h"

#include <algorithm>

#include "kernels/cpu/quantise.h"
#include "ops/cpu_context.h"

namespace xcomposer::ops {

QuantisedWeight Quantise(const at::Tensor& weight, int bits, int64_t group,
                         const std::string& name) {
  Check(bits == 4 || bits == 8, "quantise: ", bits, " bits");
  const cpu::Packing packing = bits == 8 ? cpu::Packing::kInt8 : cpu::Packing::kInt4;
  Check(weight.dim() == 2 && weight.is_contiguous() && weight.is_cpu(), "quantise: ", name,
        " must be a dense matrix on the CPU, found ", weight.sizes());
  const int64_t outputs = weight.size(0);
  const int64_t inputs = weight.size(1);
  Check(group > 0 && (group % cpu::IntegerBlock(packing) == 0 || group >= inputs),
        "quantise: ", bits, " bits in groups of ", group);
  if (outputs % cpu::kPanelOutputs != 0 || inputs % 8 != 0) {
    throw Error(ErrorKind::kCheckpoint,
                StrCat(name, " is ", outputs, " x ", inputs, "; only matrices with multiples of ",
                       cpu::kPanelOutputs, " outputs and of 8 inputs can be quantised"),
                {{"tensor", name}});
  }
  const int64_t groups = (inputs + group - 1) / group;
  QuantisedWeight result;
  LinearWeight& to = result.weight;
  constexpr int64_t kOutputs = cpu::kPanelOutputs;
  const int64_t panels = outputs / kOutputs;
  to.packing = bits == 8 ? WeightPacking::kInt8 : WeightPacking::kInt4;
  to.group = group;
  to.data = EmptyWeight({panels, inputs * bits / 32, kOutputs}, at::kInt);
  to.zeros = EmptyWeight({panels, groups, kOutputs * bits / 32}, at::kInt);
  to.scales = EmptyWeight({panels, groups, kOutputs}, at::kHalf);
  const cpu::QuantiseTarget target{.packing = packing,
                                   .group = group,
                                   .words = static_cast<uint32_t*>(to.data.mutable_data_ptr()),
                                   .zeros = static_cast<uint32_t*>(to.zeros.mutable_data_ptr()),
                                   .scales = static_cast<uint16_t*>(to.scales.mutable_data_ptr())};
  const cpu::QuantiseLoss loss = cpu::Quantise(StoredMatrixOf(weight), target, CurrentContext());
  if (loss.not_finite > 0) {
    throw Error(ErrorKind::kCheckpoint,
                StrCat(name, " holds infinities or NaNs, which cannot be quantised"),
                {{"tensor", name}});
  }
  // Where a group's numbers are too large for any scale of 16 bits, its scale is the largest.
  const auto* scales = static_cast<const uint16_t*>(to.scales.const_data_ptr());
  constexpr uint16_t kLargestHalf = 0x7bff;
  if (std::find(scales, scales + to.scales.numel(), kLargestHalf) != scales + to.scales.numel()) {
    throw Error(
        ErrorKind::kCheckpoint,
        StrCat(name, " holds numbers too large to be quantised: a scale can be 65504 at most"),
        {{"tensor", name}});
  }
  result.squared_error = loss.squared_error;
  result.squares = loss.squares;
  return result;
}

}  // namespace xcomposer::ops
