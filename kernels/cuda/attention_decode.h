#pragma once

#include <cstdint>

#include "kernels/cuda/context.h"
#include "kernels/cuda/number.h"
#include "kernels/cuda/paged_cache.h"
#include "kernels/cuda/rope_kv.h"

namespace xcomposer::cuda {

/// Attention of one row per sequence to all keys up to its own. Everything that changes from step
/// to step is read on the device, so that a captured graph stays valid.
struct DecodeAttentionParams {
  const void* q = nullptr;  ///< (sequences, heads, head_dim), as stored, rotated
  PagedCache cache;
  const int32_t* positions = nullptr;  ///< (sequences): the row's; -1 for a row that is not in use
  HeadShape shape;                     ///< head_dim 64 or 128; at most 8 heads per key-value head
  int64_t sequences = 0;
  /// Blocks that may share the keys of one key-value head; see DecodeSplits.
  int64_t splits = 1;
  float* partial = nullptr;  ///< DecodePartialFloats; only written and read in here
  int32_t* counters =
      nullptr;          ///< (sequences, kv_heads): zero before the first call, and after each
  void* out = nullptr;  ///< (sequences, heads, head_dim), as stored; zeros for unused rows
  Format format = Format::kFloat16;
};

/// Splits that keep every multiprocessor busy up to `keys` of context.
int64_t DecodeSplits(int64_t sequences, int64_t kv_heads, int64_t keys, const Context& context);

/// Numbers of float32 that `partial` must hold.
int64_t DecodePartialFloats(const HeadShape& shape, int64_t sequences, int64_t splits);

/// Softmax of (q k) / sqrt(head_dim) in float32. The keys of a sequence are shared out among
/// `splits` blocks; the last to end puts their results together, in a fixed order.
cudaError_t DecodeAttention(const DecodeAttentionParams& params, const Context& context);

}  // namespace xcomposer::cuda
