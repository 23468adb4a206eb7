#pragma once

#include <cstdint>

#include "kernels/cuda/context.h"
#include "kernels/cuda/number.h"

namespace xcomposer::cuda {

/// Angle = position * inverse frequency in float32, as the reference forms it (model specification
/// 6.4). The frequencies come from the host, where they are the reference's to the bit.
struct RopeTableParams {
  const float* inverse_frequencies = nullptr;  ///< (tables, half): one table per base
  const int32_t* tables = nullptr;             ///< (rows): which table a row takes
  const int32_t* positions = nullptr;          ///< (rows)
  float* cos = nullptr;                        ///< (rows, half)
  float* sin = nullptr;                        ///< (rows, half)
  int64_t rows = 0;
  int64_t half = 0;  ///< head_dim / 2
};

cudaError_t RopeTable(const RopeTableParams& params, const Context& context);

/// How query, key and value heads lie side by side in a product's row (model specification 2.2):
/// per key-value head its query heads, the key, the value.
struct HeadShape {
  int64_t heads = 0;
  int64_t kv_heads = 0;  ///< divides heads
  int64_t head_dim = 0;  ///< a multiple of 16
};

struct RopeKvParams {
  const void* qkv = nullptr;  ///< (rows, kv_heads, heads / kv_heads + 2, head_dim), as stored
  HeadShape shape;
  const float* cos = nullptr;  ///< (rows, head_dim / 2)
  const float* sin = nullptr;  ///< (rows, head_dim / 2)
  const int64_t* slots =
      nullptr;              ///< (rows): which row of the caches takes key and value; -1: none
  void* q = nullptr;        ///< (rows, heads, head_dim), as stored
  void* k_cache = nullptr;  ///< (slots, kv_heads, head_dim), as stored
  void* v_cache = nullptr;  ///< (slots, kv_heads, head_dim), as stored
  int64_t rows = 0;
  Format format = Format::kFloat16;
};

/// Rotates queries and keys (split halves, model specification 6.1), stores keys and values at
/// their slots.
cudaError_t RopeKv(const RopeKvParams& params, const Context& context);

}  // namespace xcomposer::cuda
