#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/rope_kv.cuh"

namespace xcomposer::cuda {

cudaError_t RopeTable(const RopeTableParams& params, const Context& context) {
  if (params.rows < 0 || params.half <= 0) return cudaErrorInvalidValue;
  constexpr int kThreads = 64;
  return Launch(RopeTableKernel<kThreads>, {.grid_x = params.rows, .threads = kThreads}, params,
                context);
}

cudaError_t RopeKv(const RopeKvParams& params, const Context& context) {
  const HeadShape& shape = params.shape;
  if (params.rows < 0 || shape.kv_heads <= 0 || shape.heads % shape.kv_heads != 0 ||
      shape.head_dim <= 0 || shape.head_dim % 16 != 0) {
    return cudaErrorInvalidValue;
  }
  if (!Aligned16(params.qkv, params.cos, params.sin, params.q, params.k_cache, params.v_cache)) {
    return cudaErrorMisalignedAddress;
  }
  return ForFormat(params.format, [&](auto number) {
    return Launch(RopeKvKernel<decltype(number)>, {.grid_x = params.rows, .threads = 256}, params,
                  context);
  });
}

}  // namespace xcomposer::cuda
