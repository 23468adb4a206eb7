#include <torch/library.h>

#include <algorithm>
#include <optional>

#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/linear.h"
#include "ops/arguments.h"
#include "ops/cpu_context.h"
#include "ops/ops.h"
#include "ops/step_memory.h"

namespace xcomposer::ops {
namespace {

using at::IntArrayRef;
using at::Tensor;

/// x (..., K) with a weight as stored or packed, for y (..., N).
template <typename Matrix>
cpu::LinearParams Product(const Tensor& x, const Matrix& weight, const std::optional<Tensor>& bias,
                          Tensor& y, bool accumulate = false) {
  cpu::LinearParams params{.x = x.const_data_ptr<float>(),
                           .x_stride = x.dim() == 2 ? x.stride(0) : weight.columns,
                           .rows = y.numel() / weight.rows,
                           .weight = weight,
                           .y = y.mutable_data_ptr<float>(),
                           .y_stride = weight.rows,
                           .accumulate = accumulate};
  if (bias) params.bias = StoredVectorOf(*bias);
  return params;
}

/// Calls `use` with the matrix that CheckPackedWeight has passed.
template <typename Use>
auto WithMatrix(const LinearWeight& weight, const Use& use) {
  if (weight.packing == WeightPacking::kBf12) return use(Bf12MatrixOf(weight));
  return use(PackedMatrixOf(weight));
}

Tensor DenseLinear(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias) {
  Tensor y = EmptyResult(CheckLinear(x, weight, bias), x.options());  // (..., N)
  if (y.numel() == 0) return y;
  cpu::Linear(Product(x, StoredMatrixOf(weight), bias, y), CurrentContext());
  return y;
}

void LinearAdd(Tensor& y, const Tensor& x, const Tensor& weight) {
  CheckLinearOnto("linear_add_", y, CheckLinear(x, weight, std::nullopt));
  if (y.numel() == 0) return;
  cpu::Linear(Product(x, StoredMatrixOf(weight), std::nullopt, y, true), CurrentContext());
}

Tensor LinearPacked(const Tensor& x, c10::string_view packing, const Tensor& words,
                    const Tensor& scales, const Tensor& zeros, int64_t group,
                    const std::optional<Tensor>& bias) {
  const LinearWeight weight = LinearWeight::Packed(packing, words, scales, zeros, group, bias);
  Tensor y = EmptyResult(CheckPackedLinear(x, weight), x.options());  // (..., N)
  if (y.numel() == 0) return y;
  WithMatrix(weight, [&](const auto& matrix) {
    cpu::Linear(Product(x, matrix, bias, y), CurrentContext());
  });
  return y;
}

void LinearPackedInto(Tensor& y, const Tensor& x, c10::string_view packing, const Tensor& words,
                      const Tensor& scales, const Tensor& zeros, int64_t group,
                      const std::optional<Tensor>& bias, bool accumulate) {
  const LinearWeight weight = LinearWeight::Packed(packing, words, scales, zeros, group, bias);
  CheckLinearOnto("linear_packed_into_", y, CheckPackedLinear(x, weight));
  if (y.numel() == 0) return;
  WithMatrix(weight, [&](const auto& matrix) {
    cpu::Linear(Product(x, matrix, bias, y, accumulate), CurrentContext());
  });
}

/// silu(w1 x) * w3 x
template <typename Matrix>
Tensor GateUp(const Tensor& x, const Matrix& w1, const Matrix& w3, at::IntArrayRef shape) {
  Tensor gate = EmptyResult(shape, x.options());  // (T, F)
  Tensor up = EmptyResult(shape, x.options());    // (T, F)
  if (gate.numel() == 0) return gate;
  const cpu::Context context = CurrentContext();
  cpu::LinearPair(Product(x, w1, std::nullopt, gate), Product(x, w3, std::nullopt, up), context);
  cpu::SiluMul(gate.mutable_data_ptr<float>(), up.const_data_ptr<float>(), gate.numel(), context);
  return gate;
}

Tensor FusedGateUp(const Tensor& hidden, const Tensor& norm, double eps, const Tensor& w1,
                   const Tensor& w3) {
  const Tensor x = RmsNorm(hidden, norm, eps);
  const auto shape = CheckLinear(x, w1, std::nullopt);
  Check(w1.sizes() == w3.sizes(), "norm_gate_up: w1 ", w1.sizes(), " and w3 ", w3.sizes(),
        " differ");
  CheckLinear(x, w3, std::nullopt);
  return GateUp(x, StoredMatrixOf(w1), StoredMatrixOf(w3), shape);
}

Tensor FusedGateUpPacked(const Tensor& hidden, const Tensor& norm, double eps,
                         c10::string_view packing, at::TensorList w1, at::TensorList w3,
                         int64_t group) {
  const LinearWeight gate = LinearWeight::Packed(packing, w1, group);
  const LinearWeight up = LinearWeight::Packed(packing, w3, group);
  const Tensor x = RmsNorm(hidden, norm, eps);
  const auto shape = CheckPackedLinear(x, gate);
  Check(CheckPackedLinear(x, up) == shape, "norm_gate_up_packed: w1 has ", gate.outputs(),
        " outputs and w3 ", up.outputs());
  if (gate.packing == WeightPacking::kBf12) {
    return GateUp(x, Bf12MatrixOf(gate), Bf12MatrixOf(up), shape);
  }
  return GateUp(x, PackedMatrixOf(gate), PackedMatrixOf(up), shape);
}

void Scores(Tensor& scores, const Tensor& hidden, const Tensor& norm, double eps,
            const Tensor& output) {
  CheckNormScores(scores, hidden, output);
  if (scores.numel() == 0) return;
  const Tensor x = RmsNorm(hidden, norm, eps);
  cpu::Linear(Product(x, StoredMatrixOf(output), std::nullopt, scores), CurrentContext());
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
  m.impl("linear", &DenseLinear);
  m.impl("linear_add_", &LinearAdd);
  m.impl("linear_packed", &LinearPacked);
  m.impl("linear_packed_into_", &LinearPackedInto);
  m.impl("linear_add_rows_", &LinearAddRows);
  m.impl("norm_gate_up", &FusedGateUp);
  m.impl("norm_gate_up_packed", &FusedGateUpPacked);
  m.impl("norm_scores_", &Scores);
}

}  // namespace xcomposer::ops
