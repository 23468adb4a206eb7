#include "kernels/cuda/attention_prefill.cuh"
#include "kernels/cuda/launch.cuh"

namespace xcomposer::cuda {
namespace {

template <typename T, int kDim, typename Source>
cudaError_t Run(const typename Source::Params& params, int64_t tiles, int64_t heads,
                const Context& context) {
  const LaunchShape shape{
      .grid_x = tiles,
      .grid_y = heads,
      .threads = kPrefillThreads,
      .shared_bytes = ArenaBytes<T>(kPrefillRows * kDim) + 2 * ArenaBytes<T>(kPrefillKeys * kDim)};
  return Launch(PrefillAttentionKernel<T, kDim, Source>, shape, params, context);
}

}  // namespace

cudaError_t PrefillAttention(const PrefillAttentionParams& params, const Context& context) {
  const HeadShape& shape = params.shape;
  if (params.sequences < 0 || params.rows < 0 || params.cache.block_size <= 0 ||
      shape.kv_heads <= 0 || shape.heads % shape.kv_heads != 0) {
    return cudaErrorInvalidValue;
  }
  if (!Aligned16(params.q, params.cache.keys, params.cache.values, params.out)) {
    return cudaErrorMisalignedAddress;
  }
  // How the rows are shared out is known on the device only: each sequence may end in a ragged
  // tile.
  const int64_t tiles = params.rows / kPrefillRows + params.sequences;
  return ForFormat(params.format, [&](auto number) {
    using T = decltype(number);
    if (shape.head_dim == 64) {
      return Run<T, 64, PagedSource<T, 64>>(params, tiles, shape.heads, context);
    }
    if (shape.head_dim == 128) {
      return Run<T, 128, PagedSource<T, 128>>(params, tiles, shape.heads, context);
    }
    return cudaErrorNotSupported;
  });
}

cudaError_t VisionAttention(const VisionAttentionParams& params, const Context& context) {
  if (params.views < 0 || params.rows < 0 || params.heads <= 0 ||
      params.stride < params.heads * params.head_dim || params.stride % 8 != 0) {
    return cudaErrorInvalidValue;
  }
  if (!Aligned16(params.q, params.k, params.v, params.out)) return cudaErrorMisalignedAddress;
  const int64_t tiles = params.views * CeilDivide(params.rows, kPrefillRows);
  return ForFormat(params.format, [&](auto number) {
    using T = decltype(number);
    if (params.head_dim == 64) {
      return Run<T, 64, ViewSource<T, 64>>(params, tiles, params.heads, context);
    }
    if (params.head_dim == 128) {
      return Run<T, 128, ViewSource<T, 128>>(params, tiles, params.heads, context);
    }
    return cudaErrorNotSupported;
  });
}

}  // namespace xcomposer::cuda
