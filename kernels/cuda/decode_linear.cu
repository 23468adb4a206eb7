#include <algorithm>

#include "kernels/cuda/decode_linear.cuh"
#include "kernels/cuda/launch.cuh"

namespace xcomposer::cuda {
namespace {

// Rows are numbered with int on the device.
constexpr int64_t kMaxRows = int64_t{1} << 30;

cudaError_t CheckWeight(const WeightMatrix& weight, Format format) {
  if (weight.rows <= 0 || weight.rows > kMaxRows || weight.columns <= 0 ||
      weight.columns > kDecodeColumns || weight.columns % 8 != 0 ||
      weight.row_stride < weight.columns || weight.row_stride % 8 != 0) {
    return cudaErrorInvalidValue;
  }
  if (!Matches(weight, format)) return cudaErrorNotSupported;
  return Aligned16(weight.data) ? cudaSuccess : cudaErrorMisalignedAddress;
}

/// Two blocks on every multiprocessor, which share the pairs out among their warps.
LaunchShape ShapeFor(int64_t pairs, int64_t columns, const Context& context) {
  constexpr int kWarps = kDecodeThreads / 32;
  return {.grid_x = std::min<int64_t>(2 * context.multiprocessors, CeilDivide(pairs, kWarps)),
          .threads = kDecodeThreads,
          .shared_bytes = ArenaBytes<float>(kWarps) + ArenaBytes<Half>(columns)};
}

}  // namespace

cudaError_t DecodeQkv(const DecodeQkvParams& params, const Context& context) {
  cudaError_t status = CheckWeight(params.wqkv, params.format);
  if (status != cudaSuccess) return status;
  const HeadShape& shape = params.shape;
  if (shape.kv_heads <= 0 || shape.heads % shape.kv_heads != 0 || shape.head_dim <= 0 ||
      shape.head_dim % 16 != 0 ||
      params.wqkv.rows != (shape.heads + 2 * shape.kv_heads) * shape.head_dim) {
    return cudaErrorInvalidValue;
  }
  if (!Aligned16(params.x.hidden, params.x.weight)) return cudaErrorMisalignedAddress;
  return ForFormat(params.format, [&](auto number) {
    return Launch(DecodeQkvKernel<decltype(number)>,
                  ShapeFor(params.wqkv.rows / 2, params.wqkv.columns, context), params, context);
  });
}

cudaError_t DecodeGateUp(const DecodeGateUpParams& params, const Context& context) {
  for (const WeightMatrix& weight : {params.w1, params.w3}) {
    const cudaError_t status = CheckWeight(weight, params.format);
    if (status != cudaSuccess) return status;
  }
  if (params.w1.rows != params.w3.rows || params.w1.columns != params.w3.columns) {
    return cudaErrorInvalidValue;
  }
  if (!Aligned16(params.x.hidden, params.x.weight)) return cudaErrorMisalignedAddress;
  return ForFormat(params.format, [&](auto number) {
    return Launch(DecodeGateUpKernel<decltype(number)>,
                  ShapeFor(params.w1.rows, params.w1.columns, context), params, context);
  });
}

cudaError_t DecodeAdd(const DecodeAddParams& params, const Context& context) {
  const cudaError_t status = CheckWeight(params.weight, params.format);
  if (status != cudaSuccess) return status;
  if (params.weight.rows % 2 != 0) return cudaErrorInvalidValue;
  if (!Aligned16(params.x)) return cudaErrorMisalignedAddress;
  return ForFormat(params.format, [&](auto number) {
    return Launch(DecodeAddKernel<decltype(number)>,
                  ShapeFor(params.weight.rows / 2, params.weight.columns, context), params,
                  context);
  });
}

cudaError_t DecodeLogits(const DecodeLogitsParams& params, const Context& context) {
  const cudaError_t status = CheckWeight(params.weight, params.format);
  if (status != cudaSuccess) return status;
  if (params.weight.rows % 2 != 0) return cudaErrorInvalidValue;
  if (!Aligned16(params.x.hidden, params.x.weight)) return cudaErrorMisalignedAddress;
  return ForFormat(params.format, [&](auto number) {
    return Launch(DecodeLogitsKernel<decltype(number)>,
                  ShapeFor(params.weight.rows / 2, params.weight.columns, context), params,
                  context);
  });
}

}  // namespace xcomposer::cuda
