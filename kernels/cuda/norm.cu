#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/norm.cuh"

namespace xcomposer::cuda {
namespace {

cudaError_t Check(const NormParams& p) {
  if (p.rows < 0 || p.columns <= 0 || p.columns % 8 != 0) return cudaErrorInvalidValue;
  return Aligned16(p.x, p.weight, p.bias, p.out) ? cudaSuccess : cudaErrorMisalignedAddress;
}

LaunchShape OneBlockPerRow(const NormParams& p, int sums) {
  return {.grid_x = p.rows, .threads = 256, .shared_bytes = sums * ArenaBytes<float>(8)};
}

}  // namespace

cudaError_t RmsNorm(const NormParams& params, const Context& context) {
  if (const cudaError_t status = Check(params); status != cudaSuccess) return status;
  return ForFormat(params.format, [&](auto number) {
    return Launch(RmsNormKernel<decltype(number)>, OneBlockPerRow(params, 1), params, context);
  });
}

cudaError_t LayerNorm(const NormParams& params, const Context& context) {
  if (const cudaError_t status = Check(params); status != cudaSuccess) return status;
  return ForFormat(params.format, [&](auto number) {
    using T = decltype(number);
    return Launch(LayerNormKernel<T, T>, OneBlockPerRow(params, 2), params, context);
  });
}

cudaError_t LayerNormToFloat(const NormParams& params, const Context& context) {
  if (const cudaError_t status = Check(params); status != cudaSuccess) return status;
  return ForFormat(params.format, [&](auto number) {
    using T = decltype(number);
    return Launch(LayerNormKernel<T, float>, OneBlockPerRow(params, 2), params, context);
  });
}

}  // namespace xcomposer::cuda
