#include "kernels/cpu/rope.h"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/isa_kernels.h"

namespace xcomposer::cpu {
namespace {

constexpr int64_t kTaskFloats = 16 * 1024;

/// `rotated`: memory for one head.
void RotateRow(const RopeKvParams& params, int64_t row, const IsaKernels& kernels, float* rotated) {
  const int64_t dim = params.head_dim;
  const int64_t half = dim / 2;
  const int64_t group = params.heads / params.kv_heads;
  const float* cos = params.cos + row * half;
  const float* sin = params.sin + row * half;
  const int64_t head_bytes = KvHeadBytes(params.format, dim);
  const int64_t cached = params.slots[row] * params.kv_heads * head_bytes;
  for (int64_t g = 0; g < params.kv_heads; ++g) {
    const float* packed = params.qkv + row * params.qkv_stride + g * (group + 2) * dim;
    float* q = params.q + (row * params.heads + g * group) * dim;
    for (int64_t h = 0; h < group; ++h) {
      kernels.rotate(packed + h * dim, cos, sin, half, q + h * dim);
    }
    const float* value = packed + (group + 1) * dim;
    char* k = static_cast<char*>(params.k_cache) + cached + g * head_bytes;
    char* v = static_cast<char*>(params.v_cache) + cached + g * head_bytes;
    if (params.format == KvFormat::kFloat32) {
      kernels.rotate(packed + group * dim, cos, sin, half, reinterpret_cast<float*>(k));
      std::copy_n(value, dim, reinterpret_cast<float*>(v));
    } else {
      kernels.rotate(packed + group * dim, cos, sin, half, rotated);
      RoundKvHead(rotated, dim, k);
      RoundKvHead(value, dim, v);
    }
  }
}

}  // namespace

void RopeTable(const RopeTableParams& params) {
  for (int64_t row = 0; row < params.rows; ++row) {
    const float* inverse = params.inverse_frequencies + params.tables[row] * params.half;
    const auto position = static_cast<float>(params.positions[row]);
    for (int64_t j = 0; j < params.half; ++j) {
      const float angle = position * inverse[j];
      // By way of double, the result is the rounded one whatever the C library.
      params.cos[row * params.half + j] = static_cast<float>(std::cos(static_cast<double>(angle)));
      params.sin[row * params.half + j] = static_cast<float>(std::sin(static_cast<double>(angle)));
    }
  }
}

void RopeKv(const RopeKvParams& params, const Context& context) {
  const IsaKernels& kernels = KernelsFor(context.isa);
  const int64_t floats =
      std::max<int64_t>(1, (params.heads + 2 * params.kv_heads) * params.head_dim);
  context.pool.ParallelFor(params.rows, std::max<int64_t>(1, kTaskFloats / floats),
                           [&](int64_t begin, int64_t end, int worker) {
                             float* head = context.pool.WorkerScratch(worker, params.head_dim);
                             for (int64_t row = begin; row < end; ++row) {
                               RotateRow(params, row, kernels, head);
                             }
                           });
}

}  // namespace xcomposer::cpu
