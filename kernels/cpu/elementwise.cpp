#include "kernels/cpu/elementwise.h"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/isa_kernels.h"

namespace xcomposer::cpu {
namespace {

constexpr int64_t kTaskFloats = 16 * 1024;

}  // namespace

void QuickGelu(float* x, int64_t count, const Context& context) {
  const IsaKernels& kernels = KernelsFor(context.isa);
  context.pool.ParallelFor(count, kTaskFloats, [&](int64_t begin, int64_t end, int) {
    kernels.quick_gelu(x + begin, end - begin);
  });
}

void Gelu(float* x, int64_t count, const Context& context) {
  constexpr float kInverseRoot2 = 0.70710678f;
  // The projector alone needs it; the library's erf is right to the last place or nearly so.
  context.pool.ParallelFor(count, kTaskFloats / 8, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      x[i] = 0.5f * x[i] * (1.0f + std::erf(x[i] * kInverseRoot2));
    }
  });
}

void SiluMul(float* gate, const float* up, int64_t count, const Context& context) {
  const IsaKernels& kernels = KernelsFor(context.isa);
  context.pool.ParallelFor(count, kTaskFloats, [&](int64_t begin, int64_t end, int) {
    kernels.silu_mul(gate + begin, up + begin, end - begin);
  });
}

void Add(float* y, const float* x, int64_t count, const Context& context) {
  const IsaKernels& kernels = KernelsFor(context.isa);
  context.pool.ParallelFor(count, kTaskFloats, [&](int64_t begin, int64_t end, int) {
    kernels.add(y + begin, x + begin, end - begin);
  });
}

void Embedding(const int64_t* ids, int64_t count, const StoredMatrix& table, float* out,
               const Context& context) {
  const IsaKernels& kernels = KernelsFor(context.isa);
  const auto* bytes = static_cast<const unsigned char*>(table.data);
  const int64_t row_bytes = table.row_stride * SizeOf(table.format);
  const int64_t grain = std::max<int64_t>(1, kTaskFloats / std::max<int64_t>(1, table.columns));
  context.pool.ParallelFor(count, grain, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      float* row = out + i * table.columns;
      if (ids[i] < 0) {
        std::fill(row, row + table.columns, 0.0f);
      } else {
        kernels.widen[static_cast<size_t>(table.format)](bytes + ids[i] * row_bytes, row,
                                                         table.columns);
      }
    }
  });
}

}  // namespace xcomposer::cpu
