#pragma once

#include <cstdint>

#include "kernels/cpu/context.h"
#include "kernels/cpu/kv_format.h"

namespace xcomposer::cpu {

struct IsaKernels;

/// The rows of one sequence in the batch, and its keys.
struct AttentionSequence {
  int64_t first_row = 0;
  int64_t row_count = 0;
  int64_t position = 0;  ///< of the first row
  const int32_t* block_table =
      nullptr;  ///< physical blocks of positions 0 .. position + row_count - 1
};

/// Causal attention of ragged sequences over a paged cache; heads is a multiple of kv_heads.
struct PagedAttentionParams {
  const float* q = nullptr;  ///< (rows, heads, head_dim)
  float* out = nullptr;      ///< (rows, heads, head_dim)
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  const void* k_cache = nullptr;  ///< (blocks, block_size, kv_heads) heads as `format` has it
  const void* v_cache = nullptr;
  KvFormat format = KvFormat::kFloat32;
  int64_t block_size = 0;
  const AttentionSequence* sequences = nullptr;
  int64_t sequence_count = 0;
};

/// Row i of a sequence sees its keys 0 .. position + i. Softmax of (q k) / sqrt(head_dim) in
/// float32, taken block by block of keys: scores are never held for more than a tile of rows. Where
/// activations count as bfloat16, so do queries, keys, values and probabilities of sequences with
/// more than one row.
void PagedAttention(const PagedAttentionParams& params, const Context& context);

/// Attention within each view, every row to every row.
struct VisionAttentionParams {
  const float* q = nullptr;  ///< (views, rows, heads, head_dim), k and v and out alike
  const float* k = nullptr;
  const float* v = nullptr;
  float* out = nullptr;
  int64_t views = 0;
  int64_t rows = 0;
  int64_t heads = 0;
  int64_t head_dim = 0;
};

void VisionAttention(const VisionAttentionParams& params, const Context& context);

/// The same with kernels of the caller's choice, for tests.
void PagedAttention(const PagedAttentionParams& params, ThreadPool& pool,
                    const IsaKernels& kernels);
void VisionAttention(const VisionAttentionParams& params, ThreadPool& pool,
                     const IsaKernels& kernels);

}  // namespace xcomposer::cpu
