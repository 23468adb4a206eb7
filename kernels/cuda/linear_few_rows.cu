#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/linear_few_rows.cuh"

namespace xcomposer::cuda {
namespace {

constexpr int64_t kMaxNumbers = int64_t{1} << 30;  // rows and columns are int on the device

cudaError_t CheckWeight(const WeightMatrix& weight, Format format) {
  if (weight.rows <= 0 || weight.rows > kMaxNumbers || weight.columns <= 0 ||
      weight.columns > kMaxNumbers || weight.columns % 32 != 0 ||
      weight.row_stride < weight.columns || weight.row_stride % 8 != 0) {
    return cudaErrorInvalidValue;
  }
  if (!Matches(weight, format)) return cudaErrorNotSupported;
  return Aligned16(weight.data) ? cudaSuccess : cudaErrorMisalignedAddress;
}

LaunchShape ShapeFor(int64_t outputs, int tiles, int matrices) {
  return {.grid_x = CeilDivide(outputs, 16),
          .threads = 32 * kFewRowsWarps,
          .shared_bytes = ArenaBytes<float>(matrices * kFewRowsWarps * tiles * 16 * 8)};
}

template <typename T, FewRowsResult kResult>
cudaError_t Run(const FewRowsParams& params, const Context& context) {
  const int64_t outputs = params.weight.rows;
  if (params.rows <= 8) {
    return Launch(FewRowsKernel<T, 1, kResult>, ShapeFor(outputs, 1, 1), params, context);
  }
  if (params.rows <= 16) {
    return Launch(FewRowsKernel<T, 2, kResult>, ShapeFor(outputs, 2, 1), params, context);
  }
  return Launch(FewRowsKernel<T, 4, kResult>, ShapeFor(outputs, 4, 1), params, context);
}

template <FewRowsResult kResult>
cudaError_t CheckAndRun(const FewRowsParams& params, const Context& context) {
  const cudaError_t status = CheckWeight(params.weight, params.format);
  if (status != cudaSuccess) return status;
  if (params.rows < 1 || params.rows > kFewRows) return cudaErrorInvalidValue;
  if (!Aligned16(params.x)) return cudaErrorMisalignedAddress;
  return ForFormat(params.format,
                   [&](auto number) { return Run<decltype(number), kResult>(params, context); });
}

}  // namespace

cudaError_t LinearFewRows(const FewRowsParams& params, const Context& context) {
  return CheckAndRun<FewRowsResult::kStored>(params, context);
}

cudaError_t LinearFewRowsToFloat(const FewRowsParams& params, const Context& context) {
  return CheckAndRun<FewRowsResult::kFloat>(params, context);
}

cudaError_t LinearFewRowsAdd(const FewRowsParams& params, const Context& context) {
  return CheckAndRun<FewRowsResult::kAdd>(params, context);
}

cudaError_t GateUpFewRows(const FewRowsGateUpParams& params, const Context& context) {
  for (const WeightMatrix& weight : {params.w1, params.w3}) {
    const cudaError_t status = CheckWeight(weight, params.format);
    if (status != cudaSuccess) return status;
  }
  if (params.rows < 1 || params.rows > kFewRows || params.w1.rows != params.w3.rows ||
      params.w1.columns != params.w3.columns) {
    return cudaErrorInvalidValue;
  }
  if (!Aligned16(params.x)) return cudaErrorMisalignedAddress;
  return ForFormat(params.format, [&](auto number) {
    using T = decltype(number);
    const int64_t outputs = params.w1.rows;
    if (params.rows <= 8) {
      return Launch(GateUpKernel<T, 1>, ShapeFor(outputs, 1, 2), params, context);
    }
    if (params.rows <= 16) {
      return Launch(GateUpKernel<T, 2>, ShapeFor(outputs, 2, 2), params, context);
    }
    return Launch(GateUpKernel<T, 4>, ShapeFor(outputs, 4, 2), params, context);
  });
}

}  // namespace xcomposer::cuda
