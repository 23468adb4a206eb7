#pragma once

#include <cstdint>

#include "kernels/cuda/context.h"
#include "kernels/cuda/number.h"
#include "kernels/cuda/rope_kv.h"
#include "kernels/cuda/weight_matrix.h"

// The linear layers of a decoding step of one sequence, fused with what stands before and after
// them: four kernels of a decoder layer's five (the fifth is DecodeAttention). Each reads its
// weights once, 16 bytes per load, and begins to do so before the kernel before it has ended.
// All pointers on 16 bytes.
namespace xcomposer::cuda {

/// Inputs of a product, at most: they stay in shared memory, two blocks to a multiprocessor of the
/// smallest device (100 KiB).
constexpr int64_t kDecodeColumns = 24 * 1024;

/// The residual stream's row and the norm in front of a product.
struct NormedRow {
  const float* hidden = nullptr;  ///< (C)
  const void* weight = nullptr;   ///< (C), as stored
  float eps = 1e-5f;
};

/// qkv = wqkv RmsNorm(hidden); queries and keys rotated; key and value stored at the row's slot.
struct DecodeQkvParams {
  NormedRow x;
  WeightMatrix wqkv;  ///< (kv_heads * (heads / kv_heads + 2) * head_dim, C)
  HeadShape shape;
  const float* cos = nullptr;     ///< (head_dim / 2)
  const float* sin = nullptr;     ///< (head_dim / 2)
  const int64_t* slot = nullptr;  ///< (1), read on the device
  void* q = nullptr;              ///< (heads, head_dim), as stored
  void* k_cache = nullptr;        ///< (slots, kv_heads, head_dim), as stored
  void* v_cache = nullptr;        ///< (slots, kv_heads, head_dim), as stored
  Format format = Format::kFloat16;
};
cudaError_t DecodeQkv(const DecodeQkvParams& params, const Context& context);

/// out = silu(w1 x) * w3 x with x = RmsNorm(hidden).
struct DecodeGateUpParams {
  NormedRow x;
  WeightMatrix w1;      ///< (F, C)
  WeightMatrix w3;      ///< (F, C)
  void* out = nullptr;  ///< (F), as stored
  Format format = Format::kFloat16;
};
cudaError_t DecodeGateUp(const DecodeGateUpParams& params, const Context& context);

/// hidden += weight x: the attention's wo and the feed-forward's w2.
struct DecodeAddParams {
  const void* x = nullptr;  ///< (K), as stored
  WeightMatrix weight;      ///< (C, K), C even
  float* hidden = nullptr;  ///< (C)
  Format format = Format::kFloat16;
};
cudaError_t DecodeAdd(const DecodeAddParams& params, const Context& context);

/// logits = weight RmsNorm(hidden), the model's head.
struct DecodeLogitsParams {
  NormedRow x;
  WeightMatrix weight;      ///< (V, C), V even
  float* logits = nullptr;  ///< (V)
  Format format = Format::kFloat16;
};
cudaError_t DecodeLogits(const DecodeLogitsParams& params, const Context& context);

}  // namespace xcomposer::cuda
