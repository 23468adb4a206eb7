#include "kernels/cuda/attention_prefill.cuh"
#include "kernels/cuda/attention_warpgroup.h"
#include "kernels/cuda/launch.cuh"

namespace xcomposer::cuda {
namespace {

/// `tiles(rows)`: how many there are of so many rows of q, at most.
template <typename T, typename Shape, typename Source, typename Tiles>
cudaError_t Run(const typename Source::Params& params, const PrefillWork& work, const Tiles& tiles,
                const Context& context) {
  const int64_t rows = Shape::kRows / work.heads_per_block;
  const int64_t groups = work.heads / work.heads_per_block;
  const int64_t count = tiles(rows);
  if (count > INT32_MAX) return cudaErrorInvalidConfiguration;
  const LaunchShape shape{
      .grid_x = count * groups,
      .threads = kPrefillThreads,
      .shared_bytes = ArenaBytes<T>(Shape::kRows * Shape::kDim) +
                      2 * ArenaBytes<T>(Shape::kStages * kPrefillKeys * Shape::kDim) +
                      ArenaBytes<int>(2 * Source::kSlots)};
  const auto launch = PrefillLaunchOf(params, work, Shape::kRows, kPrefillKeys, count, context);
  return Launch(PrefillAttentionKernel<T, Shape, Source>, shape, launch, context);
}

template <typename T, int kDim, typename Source, typename Tiles>
cudaError_t RunTiled(const typename Source::Params& params, const PrefillWork& work,
                     const Tiles& tiles, const Context& context) {
  const auto run = [&](auto shape) {
    return Run<T, decltype(shape), Source>(params, work, tiles, context);
  };
  const auto warpgroups = [&] {
    return WarpgroupAttention(
        params, work, tiles(RowsOfWarpgroups(params.tiling, kDim) / work.heads_per_block), context);
  };
  switch (params.tiling) {
    case PrefillTiling::kBySize: {
      const int64_t blocks = tiles(128 / work.heads_per_block) * work.heads / work.heads_per_block;
      if (context.warpgroup_products && 2 * blocks >= context.multiprocessors) {
        return warpgroups();
      }
      if (blocks >= 2 * int64_t{context.multiprocessors}) return run(PrefillShape<kDim, 2>());
      return run(PrefillShape<kDim, 1>());
    }
    case PrefillTiling::k64Rows:
      return run(PrefillShape<kDim, 1>());
    case PrefillTiling::k128Rows:
      return run(PrefillShape<kDim, 2>());
    case PrefillTiling::kWarpgroups:
    case PrefillTiling::kThreeWarpgroups:
      return warpgroups();
  }
  return cudaErrorInvalidValue;
}

}  // namespace

cudaError_t PrefillAttention(const PrefillAttentionParams& given, const Context& context) {
  PrefillAttentionParams params = given;
  const HeadShape& shape = params.shape;
  const int64_t width = shape.heads * shape.head_dim;
  if (params.out_stride == 0) params.out_stride = width;
  if (params.sequences < 0 || params.rows < 0 || params.cache.block_size <= 0 ||
      shape.kv_heads <= 0 || shape.heads <= 0 || shape.heads % shape.kv_heads != 0 ||
      params.out_stride < width || params.out_stride % 8 != 0) {
    return cudaErrorInvalidValue;
  }
  if (!Aligned16(params.q, params.cache.keys, params.cache.values, params.out)) {
    return cudaErrorMisalignedAddress;
  }
  const int64_t sharing = shape.heads / shape.kv_heads;
  const PrefillWork work{.heads = shape.heads,
                         .heads_per_block = sharing <= 64 ? sharing : 1,
                         .block_size = params.cache.block_size};
  // How the rows are shared out is known on the device only: each sequence may end in a ragged
  // tile.
  const auto tiles = [&](int64_t rows) { return params.rows / rows + params.sequences; };
  return ForFormat(params.format, [&](auto number) {
    using T = decltype(number);
    if (shape.head_dim == 64) {
      return RunTiled<T, 64, PagedSource<T, 64>>(params, work, tiles, context);
    }
    if (shape.head_dim == 128) {
      return RunTiled<T, 128, PagedSource<T, 128>>(params, work, tiles, context);
    }
    return cudaErrorNotSupported;
  });
}

cudaError_t VisionAttention(const VisionAttentionParams& params, const Context& context) {
  if (params.views < 0 || params.rows < 0 || params.heads <= 0 ||
      params.stride < params.heads * params.head_dim || params.stride % 8 != 0 ||
      params.rows * params.stride > INT32_MAX) {
    return cudaErrorInvalidValue;
  }
  if (!Aligned16(params.q, params.k, params.v, params.out)) return cudaErrorMisalignedAddress;
  const PrefillWork work{.heads = params.heads};
  const auto tiles = [&](int64_t rows) { return params.views * CeilDivide(params.rows, rows); };
  return ForFormat(params.format, [&](auto number) {
    using T = decltype(number);
    if (params.head_dim == 64) {
      return RunTiled<T, 64, ViewSource<T, 64>>(params, work, tiles, context);
    }
    if (params.head_dim == 128) {
      return RunTiled<T, 128, ViewSource<T, 128>>(params, work, tiles, context);
    }
    return cudaErrorNotSupported;
  });
}

}  // namespace xcomposer::cuda
