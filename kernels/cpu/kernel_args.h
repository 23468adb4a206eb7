#pragma once

#include <cstdint>

#include "kernels/cpu/kv_format.h"

namespace xcomposer::cpu {

// Arguments of the inner kernels. Plain structures without functions, since the files that read
// them are compiled for one instruction set each (simd.h).

/// What the two ways of computing a linear layer need; see linear.h for the meaning.
struct LinearKernelArgs {
  const float* x = nullptr;
  int64_t x_stride = 0;
  int64_t rows = 0;
  int64_t depth = 0;  ///< K
  const void* weight = nullptr;
  int64_t weight_stride = 0;
  int64_t outputs = 0;          ///< N
  const float* bias = nullptr;  ///< null: none
  float* y = nullptr;
  int64_t y_stride = 0;
  bool accumulate = false;
  float scale = 1.0f;
  float* packed_x = nullptr;  ///< see linear_panels.h and linear_rows.h
  int64_t one_stream_x = 0;   ///< most bytes of x beside one stream; 0: never one. linear_stream.h
  int64_t packed_rows = 0;    ///< of x, rounded up to whole panels
  // Of a quantised weight, see packed_matrix.h; `weight` holds its words.
  const uint32_t* zeros = nullptr;
  const void* scales = nullptr;
  int64_t group = 0;
  const int32_t* outliers = nullptr;  ///< of a weight in 12 bits, see bf12_matrix.h
  int64_t span = 0;                   ///< inputs that are added up by themselves, for few rows of x
  // Rounded rows of x, see integer_x.h; packed_rows of them.
  int64_t panel_rows = 0;
  uint32_t* x_codes = nullptr;
  float* x_scales = nullptr;  ///< (block of inputs, row)
  int32_t* x_sums = nullptr;  ///< the same, of the codes
};

/// Inputs of a piece of rounded rows of x (integer_x.h), and of a weight whose codes are taken out
/// of their words at a time.
inline constexpr int64_t kIntegerDepth = 256;

/// Most rows of x of packed_rows.h, and what its ranges of outputs are multiples of.
inline constexpr int64_t kMostPackedRows = 16;
inline constexpr int64_t kPackedGrain = 128;

/// Where packed_rows.h leaves the sums of a range of outputs and a span of
/// inputs.
struct RowSums {
  float* sums = nullptr;  ///< (row, output), rows `stride` apart
  int64_t stride = 0;
  float* partial_sums = nullptr;  ///< (row, output of the range): of groups that go on
  int64_t partial_stride = 0;
  const float* x_sums = nullptr;  ///< (row): of the inputs of the group
};

struct LinearBlock {
  int64_t row_begin = 0;
  int64_t row_end = 0;
  int64_t n_begin = 0;
  int64_t n_end = 0;
};

/// Rows of one norm: out = normalised x * weight (+ bias). `x` and `out` may be the same memory.
struct NormKernelArgs {
  const float* x = nullptr;
  float* out = nullptr;
  int64_t columns = 0;
  const float* weight = nullptr;
  const float* bias = nullptr;  ///< LayerNorm only
  float eps = 0.0f;
};

/// Most tiles of queries that keys and values are gathered for at a time.
inline constexpr int64_t kAttentionTiles = 4;

/// One row and a range of the keys that it sees.
struct AttentionRowArgs {
  const float* q = nullptr;  ///< (heads, head_dim)
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  float scale = 0.0f;  ///< scores are multiplied with it
  const void* k =
      nullptr;  ///< (blocks, block_size, kv_heads) heads as the kernel's KvFormat has it
  const void* v = nullptr;
  const int32_t* blocks = nullptr;  ///< physical block of each logical one
  int64_t block_size = 0;
  int64_t first_key = 0;
  int64_t end_key = 0;       ///< beyond first_key
  float* sums = nullptr;     ///< out (heads, head_dim): of e^(score - maximum) * value
  float* maximum = nullptr;  ///< out (heads): of the scores
  float* total = nullptr;    ///< out (heads): of e^(score - maximum)
};

/// Some rows of some query heads that share one key-value head, with all their keys, in tiles of
/// tile_rows rows. A lane of a tile is one query: lane = row * heads + head. Everything is kept
/// with the lanes side by side (d, lane), (key, lane), so that the softmax over keys needs no sums
/// across a vector, and keys and values are the broadcast factor.
struct AttentionTileArgs {
  const float* q = nullptr;  ///< of the first row and head
  float* out = nullptr;
  int64_t row_stride = 0;  ///< of q and out
  int64_t head_stride = 0;
  int64_t rows = 0;       ///< at most kAttentionTiles tiles
  int64_t tile_rows = 0;  ///< of each tile but the last
  int64_t heads = 0;
  int64_t head_dim = 0;
  float scale = 0.0f;  ///< scores are multiplied with it

  const void* k = nullptr;  ///< of the key-value head in block 0, as the kernel's KvFormat has it
  const void* v = nullptr;
  const int32_t* blocks = nullptr;  ///< physical block of each logical one
  int64_t block_size = 0;           ///< keys in a block
  int64_t block_stride = 0;         ///< bytes
  int64_t key_stride = 0;           ///< bytes
  int64_t keys = 0;                 ///< seen by the first row
  int64_t keys_per_row =
      0;  ///< how many more each further row sees: 1 for causal attention, else 0
};

}  // namespace xcomposer::cpu
