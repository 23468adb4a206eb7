#include "kernels/cpu/rope.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/cpu/isa_kernels.h"

namespace xcomposer::cpu {
namespace {

constexpr int64_t kTaskFloats = 16 * 1024;

void InverseFrequencies(double base, int64_t head_dim, std::vector<float>& out) {
  const auto rounded = static_cast<float>(base);
  for (size_t j = 0; j < out.size(); ++j) {
    const auto exponent =
        static_cast<float>(static_cast<double>(2 * j) / static_cast<double>(head_dim));
    out[j] = 1.0f / std::pow(rounded, exponent);
  }
}

void RotateRow(const RopeKvParams& params, int64_t row, const IsaKernels& kernels) {
  const int64_t dim = params.head_dim;
  const int64_t half = dim / 2;
  const int64_t group = params.heads / params.kv_heads;
  const float* cos = params.cos + row * half;
  const float* sin = params.sin + row * half;
  const int64_t cached = params.slots[row] * params.kv_heads * dim;
  for (int64_t g = 0; g < params.kv_heads; ++g) {
    const float* packed = params.qkv + row * params.qkv_stride + g * (group + 2) * dim;
    float* q = params.q + (row * params.heads + g * group) * dim;
    for (int64_t h = 0; h < group; ++h) {
      kernels.rotate(packed + h * dim, cos, sin, half, q + h * dim);
    }
    kernels.rotate(packed + group * dim, cos, sin, half, params.k_cache + cached + g * dim);
    std::copy_n(packed + (group + 1) * dim, dim, params.v_cache + cached + g * dim);
  }
}

}  // namespace

void RopeTable(const double* bases, const int64_t* positions, int64_t count, int64_t head_dim,
               float* cos, float* sin) {
  const int64_t half = head_dim / 2;
  std::vector<float> inverse(static_cast<size_t>(half));
  for (int64_t row = 0; row < count; ++row) {
    if (row == 0 || bases[row] != bases[row - 1]) {
      InverseFrequencies(bases[row], head_dim, inverse);
    }
    const auto position = static_cast<float>(positions[row]);
    for (int64_t j = 0; j < half; ++j) {
      const float angle = position * inverse[static_cast<size_t>(j)];
      // By way of double, the result is the rounded one whatever the C library.
      cos[row * half + j] = static_cast<float>(std::cos(static_cast<double>(angle)));
      sin[row * half + j] = static_cast<float>(std::sin(static_cast<double>(angle)));
    }
  }
}

void RopeKv(const RopeKvParams& params, const Context& context) {
  const IsaKernels& kernels = KernelsFor(context.isa);
  const int64_t floats =
      std::max<int64_t>(1, (params.heads + 2 * params.kv_heads) * params.head_dim);
  context.pool.ParallelFor(params.rows, std::max<int64_t>(1, kTaskFloats / floats),
                           [&](int64_t begin, int64_t end, int) {
                             for (int64_t row = begin; row < end; ++row) {
                               RotateRow(params, row, kernels);
                             }
                           });
}

}  // namespace xcomposer::cpu
