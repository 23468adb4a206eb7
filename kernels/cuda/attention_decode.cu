#include <algorithm>

#include "kernels/cuda/attention_decode.cuh"
#include "kernels/cuda/launch.cuh"

namespace xcomposer::cuda {
namespace {

constexpr int kWarps = kDecodeAttentionWarps;

template <typename T, int kDim>
cudaError_t Run(const DecodeAttentionParams& params, const Context& context) {
  const int64_t group = params.shape.heads / params.shape.kv_heads;
  const LaunchShape shape{
      .grid_x = params.splits,
      .grid_y = params.shape.kv_heads,
      .grid_z = params.sequences,
      .threads = 32 * kWarps,
      .shared_bytes = ArenaBytes<SoftmaxPart>(kWarps * kDecodeAttentionQueries) +
                      ArenaBytes<float>(kWarps * group * kDim) + ArenaBytes<int>(1)};
  return Launch(DecodeAttentionKernel<T, kDim>, shape, params, context);
}

}  // namespace

int64_t DecodeSplits(int64_t sequences, int64_t kv_heads, int64_t keys, const Context& context) {
  constexpr int64_t kTile = kWarps * kDecodeAttentionKeys;
  constexpr int64_t kMost = 64;
  constexpr int64_t kMostWaves = 4;
  const int64_t wave = kDecodeAttentionResident * context.multiprocessors;  // blocks
  const int64_t heads = std::max<int64_t>(1, sequences * kv_heads);
  // So many that the last wave of blocks is nearly full: the first number of waves that are full to
  // nine tenths, or else the fullest.
  int64_t splits = 1;
  double fullest = 0;
  for (int64_t waves = 1; waves <= kMostWaves && fullest < 0.9; ++waves) {
    const int64_t fitting = waves * wave / heads;
    const double full = static_cast<double>(fitting * heads) / static_cast<double>(waves * wave);
    if (full > fullest) {
      fullest = full;
      splits = fitting;
    }
  }
  splits = std::clamp<int64_t>(std::min(splits, CeilDivide(keys, kTile)), 1, kMost);
  // The kernel gives each part whole tiles: no blocks for parts that are left without any.
  const int64_t per_part =
      CeilDivide(CeilDivide(std::max<int64_t>(1, keys), splits), kTile) * kTile;
  return std::max<int64_t>(1, CeilDivide(keys, per_part));
}

int64_t DecodePartialFloats(const HeadShape& shape, int64_t sequences, int64_t splits) {
  return sequences * shape.heads * splits * (shape.head_dim + 2);
}

cudaError_t DecodeAttention(const DecodeAttentionParams& params, const Context& context) {
  const HeadShape& shape = params.shape;
  if (params.sequences < 0 || params.splits <= 0 || params.cache.block_size <= 0 ||
      shape.kv_heads <= 0 || shape.heads % shape.kv_heads != 0 ||
      shape.heads / shape.kv_heads > kDecodeAttentionQueries) {
    return cudaErrorInvalidValue;
  }
  if (!Aligned16(params.q, params.cache.keys, params.cache.values, params.partial, params.out)) {
    return cudaErrorMisalignedAddress;
  }
  return ForFormat(params.format, [&](auto number) {
    using T = decltype(number);
    if (shape.head_dim == 64) return Run<T, 64>(params, context);
    if (shape.head_dim == 128) return Run<T, 128>(params, context);
    return cudaErrorNotSupported;
  });
}

}  // namespace xcomposer::cuda
