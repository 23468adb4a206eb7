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

at::Tensor UnpackBf12(const LinearWeight& weight, int64_t first, int64_t rows) {
  at::Tensor out = at::empty({rows, weight.inputs()}, at::kBFloat16);
  cpu::UnpackBf12(Bf12MatrixOf(weight), first, rows,
                  static_cast<uint16_t*>(out.mutable_data_ptr()));
  return out;
}

at::Tensor UnpackBf12(const LinearWeight& weight) {
  at::Tensor out = EmptyWeight({weight.outputs(), weight.inputs()}, at::kBFloat16);
  const cpu::Bf12Matrix matrix = Bf12MatrixOf(weight);
  auto* const numbers = static_cast<uint16_t*>(out.mutable_data_ptr());
  CurrentContext().pool.ParallelFor(matrix.rows / cpu::kBf12Rows, 1,
                                    [&](int64_t begin, int64_t end, int) {
                                      const int64_t first = begin * cpu::kBf12Rows;
                                      cpu::UnpackBf12(matrix, first, (end - begin) * cpu::kBf12Rows,
                                                      numbers + first * matrix.columns);
                                    });
  return out;
}

LinearWeight CheckedBf12(LinearWeight weight, const std::string& name) {
  const cpu::Bf12Matrix matrix = Bf12MatrixOf(weight);
  const bool fits = cpu::FitsBf12(matrix.rows, matrix.columns);
  const std::string fault = fits ? cpu::Bf12Fault(matrix, weight.zeros.numel()) : "it is too large";
  if (!fault.empty()) {
    throw Error(ErrorKind::kCheckpoint, StrCat(name, " is no matrix in 12 bits: ", fault),
                {{"tensor", name}});
  }
  weight.zeros = weight.zeros.narrow(0, 0, matrix.outliers[matrix.rows / cpu::kBf12Rows]);
  return weight;
}

}  // namespace xcomposer::ops
