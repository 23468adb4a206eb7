#include <torch/library.h>

#include <algorithm>
#include <optional>

#include "kernels/cpu/linear.h"
#include "ops/arguments.h"
#include "ops/cpu_context.h"
#include "ops/step_memory.h"

namespace xcomposer::ops {
namespace {

using at::IntArrayRef;
using at::Tensor;

Tensor Linear(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias) {
  Tensor y = EmptyResult(CheckLinear(x, weight, bias), x.options());  // (..., N)
  if (y.numel() == 0) return y;
  cpu::LinearParams params{.x = x.const_data_ptr<float>(),
                           .x_stride = x.dim() == 2 ? x.stride(0) : weight.size(1),
                           .rows = y.numel() / weight.size(0),
                           .weight = StoredMatrixOf(weight),
                           .y = y.mutable_data_ptr<float>(),
                           .y_stride = weight.size(0)};
  if (bias) params.bias = StoredVectorOf(*bias);
  cpu::Linear(params, CurrentContext());
  return y;
}

Tensor LinearPacked(const Tensor& x, c10::string_view packing, const Tensor& words,
                    const Tensor& scales, const Tensor& zeros, int64_t group,
                    const std::optional<Tensor>& bias) {
  const LinearWeight weight = LinearWeight::Packed(packing, words, scales, zeros, group, bias);
  Tensor y = EmptyResult(CheckPackedLinear(x, weight), x.options());  // (..., N)
  if (y.numel() == 0) return y;
  const cpu::PackedMatrix matrix = PackedMatrixOf(weight);
  cpu::LinearParams params{.x = x.const_data_ptr<float>(),
                           .x_stride = matrix.columns,
                           .rows = y.numel() / matrix.rows,
                           .weight = matrix,
                           .y = y.mutable_data_ptr<float>(),
                           .y_stride = matrix.rows};
  if (bias) params.bias = StoredVectorOf(*bias);
  cpu::Linear(params, CurrentContext());
  return y;
}

void LinearAddRows(Tensor& y, const Tensor& x, const Tensor& a, const Tensor& b, IntArrayRef spans,
                   double scale) {
  CheckLinearAddRows(y, x, a, b, spans);
  int64_t longest = 0;
  for (size_t i = 0; i < spans.size(); i += 2) {
    longest = std::max(longest, spans[i + 1] - spans[i]);
  }
  if (longest == 0) return;
  const int64_t rank = a.size(0);
  const Tensor low = EmptyResult({longest, rank}, x.options());  // (span, R)
  const cpu::Context context = CurrentContext();
  for (size_t i = 0; i < spans.size(); i += 2) {
    const int64_t first = spans[i];
    const int64_t rows = spans[i + 1] - first;
    cpu::Linear({.x = x.const_data_ptr<float>() + first * x.stride(0),
                 .x_stride = x.stride(0),
                 .rows = rows,
                 .weight = StoredMatrixOf(a),
                 .y = low.mutable_data_ptr<float>(),
                 .y_stride = rank},
                context);
    cpu::Linear({.x = low.const_data_ptr<float>(),
                 .x_stride = rank,
                 .rows = rows,
                 .weight = StoredMatrixOf(b),
                 .y = y.mutable_data_ptr<float>() + first * y.stride(0),
                 .y_stride = y.stride(0),
                 .accumulate = true,
                 .scale = static_cast<float>(scale)},
                context);
  }
}

}  // namespace

TORCH_LIBRARY_IMPL(xcomposer, CPU, m) {
  m.impl("linear", &Linear);
  m.impl("linear_packed", &LinearPacked);
  m.impl("linear_add_rows_", &LinearAddRows);
}

}  // namespace xcomposer::ops
