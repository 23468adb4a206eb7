#include "ops/bf12.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <vector>

#include "base/check.h"
#include "kernels/cpu/bf12_matrix.h"
#include "ops/cpu_context.h"

namespace xcomposer::ops {

std::optional<LinearWeight> PackBf12(const at::Tensor& weight) {
  Check(weight.dim() == 2 && weight.is_contiguous() && weight.is_cpu() &&
            weight.scalar_type() == at::kBFloat16,
        "bf12 is made of dense bfloat16 matrices on the CPU, found ", weight.scalar_type(), ' ',
        weight.sizes());
  const int64_t outputs = weight.size(0);
  const int64_t inputs = weight.size(1);
  if (!cpu::FitsBf12(outputs, inputs)) return std::nullopt;
  LinearWeight packed;
  packed.packing = WeightPacking::kBf12;
  packed.data = EmptyWeight(
      {outputs / cpu::kBf12Rows, inputs / cpu::kBf12Block, cpu::kBf12Rows * cpu::kBf12Words},
      at::kInt);
  packed.scales = at::empty({outputs}, at::kFloat);
  const cpu::Bf12Target target{.words = static_cast<uint32_t*>(packed.data.mutable_data_ptr()),
                               .scales = packed.scales.mutable_data_ptr<float>()};
  const std::optional<std::vector<int32_t>> outliers =
      cpu::PackBf12(StoredMatrixOf(weight), target, CurrentContext());
  if (!outliers) return std::nullopt;
  packed.zeros = at::empty({static_cast<int64_t>(outliers->size())}, at::kInt);
  std::copy(outliers->begin(), outliers->end(), packed.zeros.mutable_data_ptr<int32_t>());
  return packed;
}

}  // namespace xcomposer::ops
