#pragma once

#include <cstdint>

#include "kernels/cuda/context.h"
#include "kernels/cuda/number.h"
#include "kernels/cuda/rope_kv.h"
#include "kernels/cuda/weight_matrix.h"

// Linear layers of 1 to 32 rows - the decoding step of several sequences - where reading the
// weights is still what takes the time. All pointers on 16 bytes.
namespace xcomposer::cuda {

constexpr int64_t kFewRows = 32;
/// Whether a product with nothing behind it is faster here than by cuBLASLt, which takes long sums
/// of many rows better (docs/cuda.md).
constexpr bool SuitFewRows(int64_t rows, int64_t columns) {
  return rows <= 16 || (rows <= kFewRows && columns <= 8192);
}

/// How a launch shares out its work. Numbers that are zero are the launcher's to choose, which
/// depends on nothing but the product's sizes and the device. Only `warps_k` has a part in the
/// results' last bits.
struct FewRowsShape {
  int left_tiles = 0;  ///< of 16 rows of weights to a warp: 2, or for QkvFewRows 1
  int warps_n = 0;     ///< of a block, side by side along N
  int warps_k = 0;     ///< of a block, sharing out K
  int stages = 0;      ///< of the ring in shared memory: 2 to 8
};

struct FewRowsParams {
  const void* x = nullptr;  ///< (rows, K), as stored, dense
  WeightMatrix weight;      ///< (N, K), K a multiple of 32
  int64_t rows = 0;         ///< 1 to kFewRows
  void* y = nullptr;        ///< (rows, N); see the functions
  Format format = Format::kFloat16;
  FewRowsShape shape = {};
};

/// y = x weight^T, stored in `format`.
cudaError_t LinearFewRows(const FewRowsParams& params, const Context& context);

/// y = x weight^T in float32: the model's head.
cudaError_t LinearFewRowsToFloat(const FewRowsParams& params, const Context& context);

/// y += x weight^T in float32: wo and w2 add to the residual stream.
cudaError_t LinearFewRowsAdd(const FewRowsParams& params, const Context& context);

struct FewRowsGateUpParams {
  const void* x = nullptr;  ///< (rows, K), as stored, dense
  WeightMatrix w1;          ///< (F, K), K a multiple of 32
  WeightMatrix w3;          ///< (F, K)
  int64_t rows = 0;         ///< 1 to kFewRows
  void* out = nullptr;      ///< (rows, F), as stored
  Format format = Format::kFloat16;
  FewRowsShape shape = {};
};

/// out = silu(w1 x) * w3 x.
cudaError_t GateUpFewRows(const FewRowsGateUpParams& params, const Context& context);

/// qkv = x wqkv^T; queries and keys rotated; keys and values stored at their rows' slots. As
/// LinearFewRows and RopeKv, but that qkv is not rounded in between.
struct FewRowsQkvParams {
  const void* x = nullptr;         ///< (rows, K), as stored, dense
  WeightMatrix wqkv;               ///< (kv_heads * (heads / kv_heads + 2) * head_dim, K)
  HeadShape heads;                 ///< head_dim a multiple of 32
  int64_t rows = 0;                ///< 1 to kFewRows
  const float* cos = nullptr;      ///< (rows, head_dim / 2)
  const float* sin = nullptr;      ///< (rows, head_dim / 2)
  const int64_t* slots = nullptr;  ///< (rows), read on the device; -1: none
  void* q = nullptr;               ///< (rows, heads, head_dim), as stored
  void* k_cache = nullptr;         ///< (slots, kv_heads, head_dim), as stored
  void* v_cache = nullptr;         ///< (slots, kv_heads, head_dim), as stored
  Format format = Format::kFloat16;
  FewRowsShape shape = {};
};
cudaError_t QkvFewRows(const FewRowsQkvParams& params, const Context& context);

}  // namespace xcomposer::cuda
