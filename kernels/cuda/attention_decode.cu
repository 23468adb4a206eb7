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
  const int64_t heads = std::max<int64_t>(1, sequences * kv_heads);
  // Two blocks keep enough loads in flight for a multiprocessor's share of the memory's rate. No
  // more than run at once, so that none waits for another.
  const int64_t at_once = std::min(2 * context.multiprocessors / heads, CeilDivide(keys, kTile));
  // Several sequences may be of very different lengths: so many parts that the blocks of a long one
  // find company, each of four tiles or more, which are worth putting together.
  const int64_t even =
      std::min(CeilDivide(8 * context.multiprocessors, heads), CeilDivide(keys, 4 * kTile));
  return std::clamp<int64_t>(sequences > 1 ? std::max(at_once, even) : at_once, 1, kMost);
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
