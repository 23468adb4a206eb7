#include <algorithm>

#include "kernels/cuda/attention_decode.cuh"
#include "kernels/cuda/launch.cuh"

namespace xcomposer::cuda {
namespace {

constexpr int kWarps = kDecodeAttentionWarps;

template <typename T, int kDim, int kGroup>
cudaError_t Run(const DecodeAttentionParams& params, const Context& context) {
  const LaunchShape shape{
      .grid_x = params.splits,
      .grid_y = params.shape.kv_heads,
      .grid_z = params.sequences,
      .threads = 32 * kWarps,
      .shared_bytes = ArenaBytes<float>(kWarps * kDecodeAttentionKeys * kGroup) +
                      3 * ArenaBytes<float>(kWarps * kGroup) +
                      ArenaBytes<float>(kWarps * kGroup * kDim) + ArenaBytes<int>(1)};
  return Launch(DecodeAttentionKernel<T, kDim, kGroup>, shape, params, context);
}

template <typename T, int kDim>
cudaError_t RunGroup(const DecodeAttentionParams& params, const Context& context) {
  const bool few = params.shape.heads / params.shape.kv_heads <= 4;
  return few ? Run<T, kDim, 4>(params, context) : Run<T, kDim, 8>(params, context);
}

}  // namespace

int64_t DecodeSplits(int64_t sequences, int64_t kv_heads, int64_t keys, const Context& context) {
  constexpr int64_t kTile = kWarps * kDecodeAttentionKeys;
  constexpr int64_t kBlocksPerMultiprocessor = 3;  // registers allow as many to be resident
  const int64_t heads = std::max<int64_t>(1, sequences * kv_heads);
  const int64_t wanted = CeilDivide(kBlocksPerMultiprocessor * context.multiprocessors, heads);
  // A part of less than four tiles costs more to put together than it saves.
  const int64_t useful = std::max<int64_t>(1, CeilDivide(keys, 4 * kTile));
  return std::clamp<int64_t>(std::min(wanted, useful), 1, 64);
}

int64_t DecodePartialFloats(const HeadShape& shape, int64_t sequences, int64_t splits) {
  return sequences * shape.heads * splits * (shape.head_dim + 2);
}

cudaError_t DecodeAttention(const DecodeAttentionParams& params, const Context& context) {
  const HeadShape& shape = params.shape;
  if (params.sequences < 0 || params.splits <= 0 || params.cache.block_size <= 0 ||
      shape.kv_heads <= 0 || shape.heads % shape.kv_heads != 0 ||
      shape.heads / shape.kv_heads > 8) {
    return cudaErrorInvalidValue;
  }
  if (!Aligned16(params.q, params.cache.keys, params.cache.values)) {
    return cudaErrorMisalignedAddress;
  }
  return ForFormat(params.format, [&](auto number) {
    using T = decltype(number);
    if (shape.head_dim == 64) return RunGroup<T, 64>(params, context);
    if (shape.head_dim == 128) return RunGroup<T, 128>(params, context);
    return cudaErrorNotSupported;
  });
}

}  // namespace xcomposer::cuda
