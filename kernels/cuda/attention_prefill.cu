#include <type_traits>

#include "kernels/cuda/attention_prefill.cuh"
#include "kernels/cuda/launch.cuh"

namespace xcomposer::cuda {
namespace {

template <typename T, typename Shape, typename Source>
cudaError_t Run(const typename Source::Params& params, int64_t blocks, int64_t heads_per_block,
                const Context& context) {
  const LaunchShape shape{
      .grid_x = blocks,
      .threads = kPrefillThreads,
      .shared_bytes = ArenaBytes<T>(Shape::kRows * Shape::kDim) +
                      2 * ArenaBytes<T>(Shape::kStages * kPrefillKeys * Shape::kDim) +
                      ArenaBytes<int>(2 * Source::kSlots)};
  const PrefillLaunch<typename Source::Params> launch{
      .problem = params,
      .heads_per_block = static_cast<int>(heads_per_block),
      .round = context.multiprocessors};
  return Launch(PrefillAttentionKernel<T, Shape, Source>, shape, launch, context);
}

/// `blocks(rows)`: how many there are with so many rows each.
template <typename T, int kDim, typename Source, typename Blocks>
cudaError_t RunTiled(const typename Source::Params& params, const Blocks& blocks,
                     int64_t heads_per_block, const Context& context) {
  PrefillTiling tiling = params.tiling;
  if (tiling == PrefillTiling::kBySize) {
    const bool fills = blocks(128) >= 2 * int64_t{context.multiprocessors};
    tiling = fills ? PrefillTiling::k128Rows : PrefillTiling::k64Rows;
  }
  const auto run = [&](auto shape) {
    using Shape = decltype(shape);
    return Run<T, Shape, Source>(params, blocks(Shape::kRows), heads_per_block, context);
  };
  // Two stages are there to be measured.
  [[maybe_unused]] constexpr bool kMeasured =
      kDim == 128 && Source::kCausal && std::is_same_v<T, Half>;
  switch (tiling) {
    case PrefillTiling::kBySize:
      break;
    case PrefillTiling::k64Rows:
      return run(PrefillShape<kDim, 1, 1>());
    case PrefillTiling::k128Rows:
      return run(PrefillShape<kDim, 2, 1>());
    case PrefillTiling::k64RowsTwoStages:
      if constexpr (kMeasured) return run(PrefillShape<kDim, 1, 2>());
      break;
    case PrefillTiling::k128RowsTwoStages:
      if constexpr (kMeasured) return run(PrefillShape<kDim, 2, 2>());
      break;
  }
  return cudaErrorInvalidValue;
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
  const int64_t sharing = shape.heads / shape.kv_heads;
  const int64_t heads = sharing <= 64 ? sharing : 1;  // of a block
  const auto blocks = [&](int64_t rows) {
    // How the rows are shared out is known on the device only: each sequence may end in a ragged
    // tile.
    const int64_t tiles = params.rows / (rows / heads) + params.sequences;
    return tiles * (shape.heads / heads);
  };
  return ForFormat(params.format, [&](auto number) {
    using T = decltype(number);
    if (shape.head_dim == 64) {
      return RunTiled<T, 64, PagedSource<T, 64>>(params, blocks, heads, context);
    }
    if (shape.head_dim == 128) {
      return RunTiled<T, 128, PagedSource<T, 128>>(params, blocks, heads, context);
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
  const auto blocks = [&](int64_t rows) {
    return params.views * CeilDivide(params.rows, rows) * params.heads;
  };
  return ForFormat(params.format, [&](auto number) {
    using T = decltype(number);
    if (params.head_dim == 64) {
      return RunTiled<T, 64, ViewSource<T, 64>>(params, blocks, 1, context);
    }
    if (params.head_dim == 128) {
      return RunTiled<T, 128, ViewSource<T, 128>>(params, blocks, 1, context);
    }
    return cudaErrorNotSupported;
  });
}

}  // namespace xcomposer::cuda
