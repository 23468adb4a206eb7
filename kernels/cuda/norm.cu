#include <algorithm>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/norm.cuh"

namespace xcomposer::cuda {
namespace {

template <typename Params>
cudaError_t Check(const Params& p) {
  if (p.rows < 0 || p.columns <= 0 || p.columns % 8 != 0) return cudaErrorInvalidValue;
  return Aligned16(p.x, p.weight, p.bias, p.out) ? cudaSuccess : cudaErrorMisalignedAddress;
}

cudaError_t CheckDense(const NormParams& p) {
  return p.out_stride == 0 ? Check(p) : cudaErrorInvalidValue;
}

/// As many threads as a row has parts of 8 numbers, in whole warps.
template <typename Params>
LaunchShape OneBlockPerRow(const Params& p, int sums) {
  const int64_t threads = std::min<int64_t>(256, CeilDivide(p.columns, 8 * 32) * 32);
  return {.grid_x = p.rows,
          .threads = static_cast<int>(threads),
          .shared_bytes = sums * ArenaBytes<float>(8)};
}

}  // namespace

cudaError_t RmsNorm(const NormParams& given, const Context& context) {
  if (const cudaError_t status = Check(given); status != cudaSuccess) return status;
  NormParams params = given;
  if (params.out_stride == 0) params.out_stride = params.columns;
  if (params.out_stride < params.columns || params.out_stride % 8 != 0) {
    return cudaErrorInvalidValue;
  }
  return ForFormat(params.format, [&](auto number) {
    return Launch(RmsNormKernel<decltype(number)>, OneBlockPerRow(params, 1), params, context);
  });
}

cudaError_t LayerNorm(const NormParams& params, const Context& context) {
  if (const cudaError_t status = CheckDense(params); status != cudaSuccess) return status;
  return ForFormat(params.format, [&](auto number) {
    using T = decltype(number);
    return Launch(LayerNormKernel<T, T>, OneBlockPerRow(params, 2), params, context);
  });
}

cudaError_t AddLayerNorm(const AddNormParams& params, const Context& context) {
  if (const cudaError_t status = Check(params); status != cudaSuccess) return status;
  if (!Aligned16(params.added)) return cudaErrorMisalignedAddress;
  return ForFormat(params.format, [&](auto number) {
    return Launch(AddLayerNormKernel<decltype(number)>, OneBlockPerRow(params, 2), params, context);
  });
}

cudaError_t LayerNormToFloat(const NormParams& params, const Context& context) {
  if (const cudaError_t status = CheckDense(params); status != cudaSuccess) return status;
  return ForFormat(params.format, [&](auto number) {
    using T = decltype(number);
    return Launch(LayerNormKernel<T, float>, OneBlockPerRow(params, 2), params, context);
  });
}

}  // namespace xcomposer::cuda
