#pragma once

#include <cstdint>
#include <vector>

#include "bench/cuda/device_memory.h"
#include "kernels/cuda/paged_cache.h"
#include "kernels/cuda/rope_kv.h"

// A whole decoder of random float16 weights, out of nothing but the kernels' own parameters: what
// gpu_check measures, and the order of launches that an engine can be compared with.
namespace xcomposer::cuda {

/// Sizes of a decoder; by default 2-vl-7b and 2-4khd-7b.
struct DecoderShape {
  int64_t layers = 32;
  int64_t hidden = 4096;
  HeadShape heads{32, 8, 128};
  int64_t inner = 14336;
  int64_t vocab = 92544;
  int64_t adapter_rank = 256;
  float adapter_scale = 1.0f;
  float eps = 1e-5f;
  float rope_base = 1e6f;
  int64_t block_size = 32;  ///< positions per block of the cache, as the engine has it

  int64_t qkv() const { return (heads.heads + 2 * heads.kv_heads) * heads.head_dim; }
  int64_t mixed() const { return heads.heads * heads.head_dim; }
  int64_t kv() const { return heads.kv_heads * heads.head_dim; }

  /// Numbers in the linears of one layer, without adapters.
  int64_t layer_numbers() const { return hidden * (qkv() + mixed()) + 3 * hidden * inner; }
  /// Bytes of weights that a step of decoding reads.
  int64_t step_bytes() const {
    return 2 * (layers * (layer_numbers() + 2 * hidden) + vocab * hidden + hidden);
  }
  /// Products and sums of all layers for one row of a prompt, without attention and adapters.
  double row_flops() const { return 2.0 * static_cast<double>(layers * layer_numbers()); }
  /// What the adapters add to it for one row of a picture.
  double adapter_row_flops() const {
    const int64_t sides = (hidden + qkv()) + (mixed() + hidden) + 3 * (hidden + inner);
    return 2.0 * static_cast<double>(layers * adapter_rank * sides);
  }
};

/// A linear with partial LoRA (model specification 5). b lies beside weight in the same rows, so
/// that rows of x with a x beside them are multiplied with both at once.
struct AdaptedLinear {
  WeightMatrix weight;  ///< (N, K)
  WeightMatrix a;       ///< (R, K)
  WeightMatrix b;       ///< (N, R), behind weight; w1's stands before it
  WeightMatrix joined;  ///< (N, K + R): both
};

struct DecoderLayer {
  const void* attention_norm = nullptr;
  const void* ffn_norm = nullptr;
  AdaptedLinear wqkv;
  AdaptedLinear wo;
  AdaptedLinear w1;
  AdaptedLinear w3;
  AdaptedLinear w2;

  /// Numbers from a matrix of w1 to that of w3.
  static int64_t Apart(const WeightMatrix& of_w1, const WeightMatrix& of_w3) {
    return (static_cast<const char*>(of_w3.data) - static_cast<const char*>(of_w1.data)) / 2;
  }
};

class Decoder {
 public:
  Decoder(const DecoderShape& shape, DeviceMemory& memory);

  const DecoderShape shape;
  const void* tok_embeddings = nullptr;  ///< (V, C)
  std::vector<DecoderLayer> layers;
  const void* norm = nullptr;  ///< (C)
  WeightMatrix output;         ///< (V, C)
  const float* inverse_frequencies = nullptr;
};

/// Keys and values of all layers for sequences of up to `context` positions, whose blocks lie in
/// no order.
class KvCache {
 public:
  KvCache(const DecoderShape& shape, int64_t sequences, int64_t context, DeviceMemory& memory);

  PagedCache Layer(int64_t layer) const;
  void* keys(int64_t layer) const { return keys_[static_cast<size_t>(layer)]; }
  void* values(int64_t layer) const { return values_[static_cast<size_t>(layer)]; }
  /// Which row of the caches holds a position.
  int64_t Slot(int64_t sequence, int64_t position) const;

  const int64_t sequences;
  const int64_t context;

 private:
  int64_t block_size_;
  int64_t table_stride_;
  std::vector<int32_t> host_tables_;
  const int32_t* tables_ = nullptr;
  std::vector<void*> keys_;
  std::vector<void*> values_;
};

}  // namespace xcomposer::cuda
