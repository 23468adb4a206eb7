// What kernels/cuda/linear.h promises, in plain C++: cuBLASLt has no emulated twin. Whoever calls
// it is tested here; linear.cu itself on a GPU only.
#include "kernels/cuda/linear.h"

namespace xcomposer::cuda {

struct LinearPlans::State {};

LinearPlans::LinearPlans(void*, size_t) : state_(std::make_unique<State>()) {}
LinearPlans::~LinearPlans() = default;
cudaError_t LinearPlans::status() const { return cudaSuccess; }

namespace {

template <typename T>
void Multiply(const LinearParams& p) {
  const bool to_float = p.result == LinearResult::kFloat || p.result == LinearResult::kAddFloat;
  const bool add = p.result == LinearResult::kAddFloat || p.result == LinearResult::kAddStored;
  const auto* x = static_cast<const T*>(p.x);
  const auto* w = static_cast<const T*>(p.weight.data);
  const auto* bias = static_cast<const T*>(p.bias);
  for (int64_t row = 0; row < p.rows; ++row) {
    for (int64_t n = 0; n < p.weight.rows; ++n) {
      float sum = 0;
      for (int64_t k = 0; k < p.weight.columns; ++k) {
        sum += Widen(x[row * p.x_stride + k]) * Widen(w[n * p.weight.row_stride + k]);
      }
      sum *= p.scale;
      if (bias != nullptr) sum += Widen(bias[n]);
      const int64_t at = row * p.y_stride + n;
      if (to_float) {
        float& y = static_cast<float*>(p.y)[at];
        y = add ? y + sum : sum;
      } else {
        T& y = static_cast<T*>(p.y)[at];
        y = Narrow<T>(add ? Widen(y) + sum : sum);
      }
    }
  }
}

}  // namespace

cudaError_t Linear(const LinearParams& params, LinearPlans&, const Context&) {
  const WeightMatrix& weight = params.weight;
  if (params.rows < 0 || weight.rows <= 0 || weight.columns <= 0 || weight.columns % 8 != 0 ||
      weight.row_stride < weight.columns || params.x_stride < weight.columns ||
      params.x_stride % 8 != 0 || params.y_stride < weight.rows) {
    return cudaErrorInvalidValue;
  }
  if (params.format == Format::kFloat16) {
    Multiply<Half>(params);
  } else {
    Multiply<BFloat16>(params);
  }
  return cudaSuccess;
}

cudaError_t AddLowRank(const LowRankParams& params, const std::vector<RowSpan>& spans,
                       LinearPlans& plans, const Context& context) {
  const bool to_float = params.result == LinearResult::kAddFloat;
  if (!to_float && params.result != LinearResult::kAddStored) return cudaErrorInvalidValue;
  for (const RowSpan& span : spans) {
    const int64_t rows = span.end - span.begin;
    cudaError_t status =
        Linear({.x = static_cast<const char*>(params.x) + span.begin * params.x_stride * 2,
                .x_stride = params.x_stride,
                .weight = params.a,
                .y = params.inner,
                .y_stride = params.a.rows,
                .rows = rows,
                .format = params.format},
               plans, context);
    if (status != cudaSuccess) return status;
    const int64_t offset = span.begin * params.y_stride * (to_float ? 4 : 2);
    status = Linear({.x = params.inner,
                     .x_stride = params.a.rows,
                     .weight = params.b,
                     .y = static_cast<char*>(params.y) + offset,
                     .y_stride = params.y_stride,
                     .rows = rows,
                     .scale = params.scale,
                     .result = params.result,
                     .format = params.format},
                    plans, context);
    if (status != cudaSuccess) return status;
  }
  return cudaSuccess;
}

}  // namespace xcomposer::cuda
