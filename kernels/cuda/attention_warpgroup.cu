#include <algorithm>

#include "kernels/cuda/attention_warpgroup.cuh"
#include "kernels/cuda/launch.cuh"

namespace xcomposer::cuda {
namespace {

constexpr int64_t kStayingRounds = 8;

template <typename T, typename Shape, typename Source, typename Keys>
cudaError_t RunShape(const typename Source::Params& params, const PrefillWork& work, int64_t tiles,
                     const Context& context) {
  const int64_t items = tiles * (work.heads / work.heads_per_block);
  if (items > INT32_MAX - context.multiprocessors) return cudaErrorInvalidConfiguration;
  constexpr int64_t kAlignment = 1024 - 16;
  // On an H200, blocks that stay were faster with 16 rounds of items or more, slower with 2 or 4.
  const bool stay = items >= kStayingRounds * context.multiprocessors;
  const LaunchShape shape{
      .grid_x = stay ? context.multiprocessors : items,
      .threads = Shape::kThreads,
      .shared_bytes = kAlignment + ArenaBytes<T>(2 * Shape::kRows * Shape::kDim) +
                      ArenaBytes<T>(Shape::kSlots * kWarpgroupKeys * Shape::kDim) +
                      2 * ArenaBytes<uint64_t>(Shape::kSlots)};
  const auto launch = PrefillLaunchOf(params, work, Shape::kRows, kWarpgroupKeys, tiles, context);
  return Launch(WarpgroupAttentionKernel<T, Shape, Source, Keys>, shape, launch, context);
}

template <typename T, int kDim, typename Source, typename Keys>
cudaError_t Run(const typename Source::Params& params, const PrefillWork& work, int64_t tiles,
                const Context& context) {
  const auto run = [&](auto shape) {
    return RunShape<T, decltype(shape), Source, Keys>(params, work, tiles, context);
  };
  const int rows = RowsOfWarpgroups(params.tiling, kDim);
  if constexpr (kDim == 64) {
    if (rows == 192) return run(WarpgroupShape<kDim, 3>());
  }
  return rows == 128 ? run(WarpgroupShape<kDim, 2>()) : cudaErrorNotSupported;
}

}  // namespace

cudaError_t WarpgroupAttention(const PrefillAttentionParams& params, const PrefillWork& work,
                               int64_t tiles, const Context& context) {
  if (!context.warpgroup_products) return cudaErrorNotSupported;
  return ForFormat(params.format, [&](auto number) {
    using T = decltype(number);
    switch (params.shape.head_dim) {
      case 64:
        return Run<T, 64, PagedSource<T, 64>, PagedKeys<64>>(params, work, tiles, context);
      case 128:
        return Run<T, 128, PagedSource<T, 128>, PagedKeys<128>>(params, work, tiles, context);
      default:
        return cudaErrorNotSupported;
    }
  });
}

cudaError_t WarpgroupAttention(const VisionAttentionParams& params, const PrefillWork& work,
                               int64_t tiles, const Context& context) {
  if (!context.warpgroup_products) return cudaErrorNotSupported;
  return ForFormat(params.format, [&](auto number) {
    using T = decltype(number);
    switch (params.head_dim) {
      case 64:
        return Run<T, 64, ViewSource<T, 64>, ViewKeys<64>>(params, work, tiles, context);
      case 128:
        return Run<T, 128, ViewSource<T, 128>, ViewKeys<128>>(params, work, tiles, context);
      default:
        return cudaErrorNotSupported;
    }
  });
}

}  // namespace xcomposer::cuda
