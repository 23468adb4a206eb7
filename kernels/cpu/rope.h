#pragma once

#include <cstdint>

#include "kernels/cpu/context.h"
#include "kernels/cpu/kv_format.h"

namespace xcomposer::cpu {

/// Angle = position * inverse frequency in float32 (model specification 6.4), with a table of
/// inverse frequencies for each rotary base.
struct RopeTableParams {
  const float* inverse_frequencies = nullptr;  ///< (tables, half)
  const int32_t* tables = nullptr;             ///< (rows): which table a row takes
  const int32_t* positions = nullptr;          ///< (rows)
  float* cos = nullptr;                        ///< (rows, half)
  float* sin = nullptr;                        ///< (rows, half)
  int64_t rows = 0;
  int64_t half = 0;  ///< head_dim / 2
};

void RopeTable(const RopeTableParams& params);

/// One packed row per token: per key-value head its query heads, the key, the value
/// (specification 2.2).
struct RopeKvParams {
  const float* qkv = nullptr;  ///< (rows, kv_heads, heads / kv_heads + 2, head_dim)
  int64_t qkv_stride = 0;
  int64_t rows = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  const float* cos = nullptr;      ///< (rows, head_dim / 2)
  const float* sin = nullptr;      ///< (rows, head_dim / 2)
  const int64_t* slots = nullptr;  ///< (rows): which row of the caches takes the key and the value
  float* q = nullptr;              ///< (rows, heads, head_dim)
  void* k_cache = nullptr;         ///< (slots, kv_heads) heads as `format` has it
  void* v_cache = nullptr;         ///< likewise
  KvFormat format = KvFormat::kFloat32;
};

/// Rotates queries and keys (split halves, specification 6.1), stores keys and values at their
/// slots, rounded where the format asks for it.
void RopeKv(const RopeKvParams& params, const Context& context);

}  // namespace xcomposer::cpu
