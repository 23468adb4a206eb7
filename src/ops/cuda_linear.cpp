#include "ops/cuda_linear.h"

#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <vector>

#include "base/check.h"
#include "kernels/cuda/decode_linear.h"
#include "kernels/cuda/linear_few_rows.h"
#include "ops/arguments.h"
#include "ops/cuda_arguments.h"
#include "ops/cuda_library.h"
#include "ops/cuda_resources.h"

namespace xcomposer::ops {

using at::IntArrayRef;
using at::Tensor;
using cuda::LinearResult;

Tensor PaddedColumns(const Tensor& t) {
  const int64_t missing = (8 - t.size(-1) % 8) % 8;
  return missing == 0 ? t : at::constant_pad_nd(t, {0, missing});
}

namespace {

Tensor PaddedRows(const Tensor& t) {
  const int64_t missing = (8 - t.size(0) % 8) % 8;
  return missing == 0 ? t : at::constant_pad_nd(t, {0, 0, 0, missing});
}

cudaError_t LaunchFewRows(const cuda::FewRowsParams& params, LinearResult result,
                          const cuda::Context& context) {
  switch (result) {
    case LinearResult::kStored:
      return cuda::LinearFewRows(params, context);
    case LinearResult::kFloat:
      return cuda::LinearFewRowsToFloat(params, context);
    case LinearResult::kAddFloat:
      return cuda::LinearFewRowsAdd(params, context);
    case LinearResult::kAddStored:
      break;
  }
  return cudaErrorNotSupported;
}

}  // namespace

void Multiply(const CudaProduct& product, Tensor& y) {
  const Tensor weight = PaddedColumns(product.weight);
  const Tensor x = PaddedColumns(product.x.to(weight.scalar_type()));
  const int64_t columns = weight.size(1);
  const int64_t rows = x.numel() / std::max<int64_t>(1, columns);
  const int64_t x_stride = x.dim() == 2 ? RowStride(x) : columns;
  if (rows == 0 || y.numel() == 0) return;
  CudaResources& cuda = CurrentCuda();
  const cuda::WeightMatrix matrix = CudaMatrixOf(product.op, weight);
  const cuda::Format format = CudaFormatOf(product.op, weight);
  if (rows == 1 && product.result == LinearResult::kAddFloat && matrix.rows % 2 == 0 &&
      columns <= cuda::kDecodeColumns) {
    return Launched(product.op, cuda::DecodeAdd({.x = x.const_data_ptr(),
                                                 .weight = matrix,
                                                 .hidden = y.mutable_data_ptr<float>(),
                                                 .format = format},
                                                cuda.context()));
  }
  if (cuda::SuitFewRows(rows, columns) && columns % 32 == 0 && x_stride == columns &&
      !product.bias) {
    return Launched(product.op, LaunchFewRows({.x = x.const_data_ptr(),
                                               .weight = matrix,
                                               .rows = rows,
                                               .y = y.mutable_data_ptr(),
                                               .format = format},
                                              product.result, cuda.context()));
  }
  Launched(product.op,
           cuda::Linear({.x = x.const_data_ptr(),
                         .x_stride = x_stride,
                         .weight = matrix,
                         .bias = product.bias ? product.bias->const_data_ptr() : nullptr,
                         .y = y.mutable_data_ptr(),
                         .y_stride = matrix.rows,
                         .rows = rows,
                         .result = product.result,
                         .format = format},
                        cuda.plans(), cuda.context()));
}

namespace {

Tensor Linear(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias) {
  const auto shape = CheckLinear(x, weight, bias);
  if (bias) RequireType("linear", weight.scalar_type(), {&*bias});
  Tensor y = at::empty(shape, weight.options());  // (..., N)
  Multiply({.op = "linear", .x = x, .weight = weight, .bias = bias}, y);
  return y;
}

Tensor LinearFloat(const Tensor& x, const Tensor& weight) {
  const auto shape = CheckLinear(x, weight, std::nullopt);
  Tensor y = at::empty(shape, weight.options().dtype(at::kFloat));  // (..., N)
  Multiply({.op = "linear_float",
            .x = x,
            .weight = weight,
            .bias = std::nullopt,
            .result = LinearResult::kFloat},
           y);
  return y;
}

void LinearInto(Tensor& y, const Tensor& x, const Tensor& weight, double scale) {
  const char* op = "linear_into_";
  CheckLinearInto(y, x, weight);
  RequireType(op, weight.scalar_type(), {&x, &y});
  if (y.numel() == 0) return;
  const bool several = y.dim() == 3 && y.size(1) > 1;
  const auto first = [&y](const Tensor& t, int64_t dimension) {
    return y.dim() == 3 ? t.select(dimension, 0) : t;
  };
  const Tensor result = first(y, 1);
  const Tensor rows = first(x, 1);
  cuda::LinearBatch batch;
  if (several) {
    batch = {.count = y.size(1),
             .weight_distance = weight.stride(0),
             .x_distance = x.stride(1),
             .y_distance = y.stride(1)};
  }
  CudaResources& cuda = CurrentCuda();
  Launched(op, cuda::Linear({.x = rows.const_data_ptr(),
                             .x_stride = RowStride(rows),
                             .weight = CudaMatrixOf(op, first(weight, 0)),
                             .y = result.mutable_data_ptr(),
                             .y_stride = RowStride(result),
                             .rows = rows.size(0),
                             .scale = static_cast<float>(scale),
                             .batch = batch,
                             .format = CudaFormatOf(op, weight)},
                            cuda.plans(), cuda.context()));
}

void LinearAdd(Tensor& y, const Tensor& x, const Tensor& weight) {
  const char* op = "linear_add_";
  const auto shape = CheckLinear(x, weight, std::nullopt);
  RequireType(op, at::kFloat, {&y});
  Check(y.sizes() == shape && y.is_contiguous(), op, ": y must be dense ", IntArrayRef(shape),
        ", found ", y.sizes());
  Multiply(
      {.op = op, .x = x, .weight = weight, .bias = std::nullopt, .result = LinearResult::kAddFloat},
      y);
}

Tensor LinearPacked(const Tensor&, c10::string_view packing, const Tensor&, const Tensor&,
                    const Tensor&, int64_t, const std::optional<Tensor>&) {
  throw Error(ErrorKind::kDevice, StrCat("there are no CUDA kernels for weights packed as ",
                                         packing, "; load the 16-bit checkpoint"));
}

void LinearAddRows(Tensor& y, const Tensor& x, const Tensor& a, const Tensor& b, IntArrayRef spans,
                   double scale) {
  const char* op = "linear_add_rows_";
  CheckLinearAddRows(y, x, a, b, spans);
  RequireType(op, a.scalar_type(), {&x, &b});
  if (y.scalar_type() != at::kFloat) RequireType(op, a.scalar_type(), {&y});
  std::vector<cuda::RowSpan> rows;
  for (size_t i = 0; i < spans.size(); i += 2) rows.push_back({spans[i], spans[i + 1]});
  bool ascending = false;
  int64_t longest = 0;
  for (const cuda::RowSpan& run : cuda::JoinSpans(rows, ascending)) {
    longest = std::max(longest, run.end - run.begin);
  }
  if (longest == 0) return;
  const Tensor down = PaddedRows(a);                                     // (R, K)
  const Tensor up = PaddedColumns(b);                                    // (N, R)
  const Tensor inner = at::empty({longest, down.size(0)}, a.options());  // (run, R)
  CudaResources& cuda = CurrentCuda();
  Launched(op, cuda::AddLowRank({.x = x.const_data_ptr(),
                                 .x_stride = x.stride(0),
                                 .a = CudaMatrixOf(op, down),
                                 .b = CudaMatrixOf(op, up),
                                 .inner = inner.mutable_data_ptr(),
                                 .y = y.mutable_data_ptr(),
                                 .y_stride = y.stride(0),
                                 .scale = static_cast<float>(scale),
                                 .result = y.scalar_type() == at::kFloat ? LinearResult::kAddFloat
                                                                         : LinearResult::kAddStored,
                                 .format = CudaFormatOf(op, a)},
                                rows, cuda.plans(), cuda.context()));
}

}  // namespace

void RegisterCudaLinear(torch::Library& m) {
  m.impl("linear", &Linear);
  m.impl("linear_float", &LinearFloat);
  m.impl("linear_into_", &LinearInto);
  m.impl("linear_add_", &LinearAdd);
  m.impl("linear_packed", &LinearPacked);
  m.impl("linear_add_rows_", &LinearAddRows);
}

}  // namespace xcomposer::ops
