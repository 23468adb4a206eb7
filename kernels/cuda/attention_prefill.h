#pragma once

#include <cstdint>

#include "kernels/cuda/context.h"
#include "kernels/cuda/number.h"
#include "kernels/cuda/paged_cache.h"
#include "kernels/cuda/rope_kv.h"

namespace xcomposer::cuda {

/// Rows (of q, times heads that share keys) that a block takes: 128 do less for each product, 64
/// spread a small problem over more multiprocessors. kWarpgroups: 128 with products of warpgroups,
/// where the context has them; kThreeWarpgroups: 192, for heads of 64. Results agree within the
/// budget.
enum class PrefillTiling {
  kBySize,
  k64Rows,
  k128Rows,
  kWarpgroups,
  kThreeWarpgroups,
};

/// Causal attention of ragged sequences over a paged cache that already holds their keys. All
/// tables are read on the device.
struct PrefillAttentionParams {
  const void* q = nullptr;  ///< (rows, heads, head_dim), as stored, rotated
  PagedCache cache;
  const int32_t* first_rows = nullptr;  ///< (sequences)
  const int32_t* row_counts = nullptr;  ///< (sequences); zero is allowed
  const int32_t* positions = nullptr;   ///< (sequences): of each one's first row
  int64_t sequences = 0;
  int64_t rows = 0;        ///< of all sequences
  HeadShape shape;         ///< head_dim 64 or 128
  void* out = nullptr;     ///< (rows, heads, head_dim), as stored
  int64_t out_stride = 0;  ///< numbers between its rows, a multiple of 8; 0: dense
  Format format = Format::kFloat16;
  PrefillTiling tiling = PrefillTiling::kBySize;
};

/// Row i of a sequence sees its keys 0 .. position + i. Softmax of (q k) / sqrt(head_dim) in
/// float32, taken 64 or 128 keys at a time.
cudaError_t PrefillAttention(const PrefillAttentionParams& params, const Context& context);

/// Attention of every row to every row of the same view.
struct VisionAttentionParams {
  const void* q = nullptr;  ///< (views, rows, heads, head_dim), as stored; rows `stride` apart
  const void* k = nullptr;
  const void* v = nullptr;
  int64_t stride = 0;   ///< numbers between rows of q, k and v, which may come from one product;
                        ///< below 2^31 in a view
  void* out = nullptr;  ///< (views, rows, heads, head_dim), dense
  int64_t views = 0;
  int64_t rows = 0;
  int64_t heads = 0;
  int64_t head_dim = 0;  ///< 64 or 128
  Format format = Format::kFloat16;
  PrefillTiling tiling = PrefillTiling::kBySize;
};

cudaError_t VisionAttention(const VisionAttentionParams& params, const Context& context);

}  // namespace xcomposer::cuda
