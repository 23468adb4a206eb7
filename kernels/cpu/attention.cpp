#include "kernels/cpu/attention.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/cpu/isa_kernels.h"

namespace xcomposer::cpu {
namespace {

int64_t DivideUp(int64_t a, int64_t b) { return (a + b - 1) / b; }

void RunTiles(const std::vector<AttentionTileArgs>& tiles, const Context& context) {
  if (tiles.empty()) return;
  const IsaKernels& kernels = KernelsFor(context.isa);
  const int64_t floats = kernels.attention_scratch(tiles.front().head_dim);
  context.pool.ParallelFor(static_cast<int64_t>(tiles.size()), 1,
                           [&](int64_t begin, int64_t end, int worker) {
                             float* scratch = context.pool.WorkerScratch(worker, floats);
                             for (int64_t i = begin; i < end; ++i) {
                               kernels.attention(tiles[static_cast<size_t>(i)], scratch);
                             }
                           });
}

/// The tiles of one sequence and one key-value head. Long ones first: they see the most keys.
void AddTiles(const PagedAttentionParams& params, const AttentionSequence& sequence,
              int64_t kv_head, int64_t lanes, std::vector<AttentionTileArgs>& tiles) {
  const int64_t dim = params.head_dim;
  const int64_t group = params.heads / params.kv_heads;
  const int64_t tile_heads = std::min(group, lanes);
  const int64_t tile_rows = std::min(sequence.row_count, lanes / tile_heads);
  const int64_t key_stride = params.kv_heads * dim;
  for (int64_t tile = DivideUp(sequence.row_count, tile_rows) - 1; tile >= 0; --tile) {
    const int64_t row = tile * tile_rows;
    for (int64_t head = 0; head < group; head += tile_heads) {
      const int64_t query =
          ((sequence.first_row + row) * params.heads + kv_head * group + head) * dim;
      tiles.push_back({.q = params.q + query,
                       .out = params.out + query,
                       .row_stride = params.heads * dim,
                       .head_stride = dim,
                       .rows = std::min(tile_rows, sequence.row_count - row),
                       .heads = std::min(tile_heads, group - head),
                       .head_dim = dim,
                       .scale = 1.0f / std::sqrt(static_cast<float>(dim)),
                       .k = params.k_cache + kv_head * dim,
                       .v = params.v_cache + kv_head * dim,
                       .blocks = sequence.block_table,
                       .block_size = params.block_size,
                       .block_stride = params.block_size * key_stride,
                       .key_stride = key_stride,
                       .keys = sequence.position + row + 1,
                       .keys_per_row = 1});
    }
  }
}

}  // namespace

void PagedAttention(const PagedAttentionParams& params, const Context& context) {
  const int64_t lanes = KernelsFor(context.isa).attention_lanes;
  std::vector<AttentionTileArgs> tiles;
  for (int64_t s = 0; s < params.sequence_count; ++s) {
    if (params.sequences[s].row_count <= 0) continue;
    for (int64_t kv_head = 0; kv_head < params.kv_heads; ++kv_head) {
      AddTiles(params, params.sequences[s], kv_head, lanes, tiles);
    }
  }
  RunTiles(tiles, context);
}

void VisionAttention(const VisionAttentionParams& params, const Context& context) {
  const int64_t lanes = KernelsFor(context.isa).attention_lanes;
  const int64_t dim = params.head_dim;
  const int64_t row_stride = params.heads * dim;
  // Tiles of equal size, so that the last one of a view is not a crumb.
  const int64_t per_head = DivideUp(params.rows, lanes);
  if (params.views <= 0 || per_head == 0) return;
  const int64_t tile_rows = DivideUp(params.rows, per_head);
  const int32_t only_block = 0;
  std::vector<AttentionTileArgs> tiles;
  for (int64_t view = 0; view < params.views; ++view) {
    for (int64_t head = 0; head < params.heads; ++head) {
      const int64_t start = view * params.rows * row_stride + head * dim;
      for (int64_t row = 0; row < params.rows; row += tile_rows) {
        tiles.push_back({.q = params.q + start + row * row_stride,
                         .out = params.out + start + row * row_stride,
                         .row_stride = row_stride,
                         .head_stride = dim,
                         .rows = std::min(tile_rows, params.rows - row),
                         .heads = 1,
                         .head_dim = dim,
                         .scale = 1.0f / std::sqrt(static_cast<float>(dim)),
                         .k = params.k + start,
                         .v = params.v + start,
                         .blocks = &only_block,
                         .block_size = params.rows,
                         .block_stride = 0,
                         .key_stride = row_stride,
                         .keys = params.rows,
                         .keys_per_row = 0});
      }
    }
  }
  RunTiles(tiles, context);
}

}  // namespace xcomposer::cpu
