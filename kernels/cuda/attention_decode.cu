#include <algorithm>

#include "kernels/cuda/attention_decode.cuh"
#include "kernels/cuda/launch.cuh"

namespace xcomposer::cuda {
namespace {

constexpr int kFewWarps = 4;
constexpr int kManyWarps = 6;

template <typename T, int kDim, int kWarps>
cudaError_t Run(const DecodeAttentionParams& params, const Context& context) {
  const int64_t group = params.shape.heads / params.shape.kv_heads;
  const LaunchShape shape{
      .grid_x = params.sharing.splits,
      .grid_y = params.shape.kv_heads,
      .grid_z = params.sequences,
      .threads = 32 * kWarps,
      .shared_bytes = ArenaBytes<SoftmaxPart>(kWarps * kDecodeAttentionQueries) +
                      ArenaBytes<float>(kWarps * group * kDim) + ArenaBytes<int>(1)};
  return Launch(DecodeAttentionKernel<T, kDim, kWarps>, shape, params, context);
}

template <typename T, int kDim>
cudaError_t RunWith(const DecodeAttentionParams& params, const Context& context) {
  return params.sharing.warps == kManyWarps ? Run<T, kDim, kManyWarps>(params, context)
                                            : Run<T, kDim, kFewWarps>(params, context);
}

/// So many splits that `waves` waves of blocks are as full as can be.
struct Waves {
  int64_t splits;
  double full;

  Waves(int64_t waves, int warps, int64_t heads, const Context& context) {
    const int64_t blocks = waves * kDecodeAttentionWarps / warps * context.multiprocessors;
    splits = blocks / heads;
    full = static_cast<double>(splits * heads) / static_cast<double>(blocks);
  }
};

}  // namespace

DecodeSharing ShareDecoding(int64_t sequences, int64_t kv_heads, int64_t keys,
                            const Context& context) {
  constexpr int64_t kMost = 64;
  constexpr int64_t kMostWaves = 4;
  constexpr double kFull = 0.9;
  const int64_t heads = std::max<int64_t>(1, sequences * kv_heads);
  // One wave if it can be nearly full, of few warps or many: between two of them memory stands
  // still. Otherwise the first number of waves that are, or else the fullest.
  DecodeSharing sharing{.splits = 1, .warps = kFewWarps};
  double fullest = 0;
  const auto consider = [&](int64_t count, int warps) {
    const Waves waves(count, warps, heads, context);
    if (fullest >= kFull || waves.full <= fullest) return;
    fullest = waves.full;
    sharing = {.splits = waves.splits, .warps = warps};
  };
  consider(1, kFewWarps);
  if (Waves(1, kManyWarps, heads, context).full >= kFull) consider(1, kManyWarps);
  for (int64_t waves = 2; waves <= kMostWaves; ++waves) consider(waves, kFewWarps);
  const int64_t tile = sharing.warps * kDecodeAttentionKeys;
  const int64_t splits =
      std::clamp<int64_t>(std::min(sharing.splits, CeilDivide(keys, tile)), 1, kMost);
  // The kernel gives each part whole tiles: no blocks for parts that are left without any.
  const int64_t per_part = CeilDivide(CeilDivide(std::max<int64_t>(1, keys), splits), tile) * tile;
  sharing.splits = std::max<int64_t>(1, CeilDivide(keys, per_part));
  return sharing;
}

int64_t DecodePartialFloats(const HeadShape& shape, int64_t sequences, int64_t splits) {
  return sequences * shape.heads * splits * (shape.head_dim + 2);
}

cudaError_t DecodeAttention(const DecodeAttentionParams& params, const Context& context) {
  const HeadShape& shape = params.shape;
  if (params.sequences < 0 || params.sharing.splits <= 0 ||
      (params.sharing.warps != kFewWarps && params.sharing.warps != kManyWarps) ||
      params.cache.block_size <= 0 || shape.kv_heads <= 0 || shape.heads % shape.kv_heads != 0 ||
      shape.heads / shape.kv_heads > kDecodeAttentionQueries) {
    return cudaErrorInvalidValue;
  }
  if (!Aligned16(params.q, params.cache.keys, params.cache.values, params.partial, params.out)) {
    return cudaErrorMisalignedAddress;
  }
  return ForFormat(params.format, [&](auto number) {
    using T = decltype(number);
    if (shape.head_dim == 64) return RunWith<T, 64>(params, context);
    if (shape.head_dim == 128) return RunWith<T, 128>(params, context);
    return cudaErrorNotSupported;
  });
}

}  // namespace xcomposer::cuda
