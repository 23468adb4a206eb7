#pragma once

#include "kernels/cuda/attention_prefill_tile.cuh"

namespace xcomposer::cuda {

/// Rows (of q, times heads that share keys) that a block of WarpgroupAttention takes. Results of
/// three groups' rows fit a multiprocessor's registers where heads are of 64.
constexpr int RowsOfWarpgroups(PrefillTiling tiling, int64_t head_dim) {
  const bool three = tiling == PrefillTiling::kThreeWarpgroups ||
                     (tiling == PrefillTiling::kBySize && head_dim == 64);
  return three ? 192 : 128;
}

/// PrefillAttention and VisionAttention with products of warpgroups. `tiles` of
/// RowsOfWarpgroups() / heads_per_block rows of q, at most. cudaErrorNotSupported where the context
/// has no such products, and for other than 64 or 128 numbers to a head, or 64 with three groups.
cudaError_t WarpgroupAttention(const PrefillAttentionParams& params, const PrefillWork& work,
                               int64_t tiles, const Context& context);
cudaError_t WarpgroupAttention(const VisionAttentionParams& params, const PrefillWork& work,
                               int64_t tiles, const Context& context);

}  // namespace xcomposer::cuda
