#pragma once

#include "kernels/cuda/rope_kv.h"
#include "kernels/cuda/vector.cuh"

namespace xcomposer::cuda {

/// One block per row, a thread for each angle.
template <int kThreads>
__global__ void __launch_bounds__(kThreads) RopeTableKernel(RopeTableParams p) {
  GridDependencyLaunch();
  GridDependencyWait();
  const int64_t row = BlockX();
  const auto position = static_cast<float>(Load(p.positions + row));
  const float* frequencies = p.inverse_frequencies + Load(p.tables + row) * p.half;
  for (int64_t j = ThreadIndex(); j < p.half; j += kThreads) {
    const float angle = position * Load(frequencies + j);
    Store(p.cos + row * p.half + j, Cos(angle));
    Store(p.sin + row * p.half + j, Sin(angle));
  }
}

/// One block per row; a thread rotates eight pairs (j, j + head_dim / 2) of one head at a time.
template <typename T>
__global__ void __launch_bounds__(256) RopeKvKernel(RopeKvParams p) {
  GridDependencyLaunch();
  GridDependencyWait();
  const int64_t row = BlockX();
  const int dim = static_cast<int>(p.shape.head_dim);
  const int half = dim / 2;
  const int group = static_cast<int>(p.shape.heads / p.shape.kv_heads);
  const int packed_heads = static_cast<int>(p.shape.kv_heads) * (group + 2);
  const int parts = half / 8;
  const int64_t slot = Load(p.slots + row);
  for (int i = ThreadIndex(); i < packed_heads * parts; i += BlockThreads()) {
    const int head = i / parts;
    const int j = i % parts * 8;
    const int kv = head / (group + 2);
    const int place = head % (group + 2);  // < group: a query, then the key, then the value
    if (place >= group && slot < 0) continue;
    const T* in = static_cast<const T*>(p.qkv) + (row * packed_heads + head) * dim + j;
    float low[8];
    float high[8];
    LoadEight(in, low);
    LoadEight(in + half, high);
    if (place <= group) {
      float cos[8];
      float sin[8];
      LoadEight(p.cos + row * half + j, cos);
      LoadEight(p.sin + row * half + j, sin);
      XCOMPOSER_UNROLL
      for (int k = 0; k < 8; ++k) {
        const float x = low[k];
        low[k] = x * cos[k] - high[k] * sin[k];
        high[k] = high[k] * cos[k] + x * sin[k];
      }
    }
    T* out = static_cast<T*>(p.q) + (row * p.shape.heads + kv * group + place) * dim;
    const int64_t cached = (slot * p.shape.kv_heads + kv) * dim;
    if (place == group) out = static_cast<T*>(p.k_cache) + cached;
    if (place == group + 1) out = static_cast<T*>(p.v_cache) + cached;
    StoreEight(out + j, low);
    StoreEight(out + half + j, high);
  }
}

}  // namespace xcomposer::cuda
