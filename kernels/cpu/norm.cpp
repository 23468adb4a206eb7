#include "kernels/cpu/norm.h"

#include <algorithm>

#include "kernels/cpu/isa_kernels.h"

namespace xcomposer::cpu {
namespace {

constexpr int64_t kTaskFloats = 16 * 1024;

NormKernelArgs Arguments(const NormParams& params) {
  return {.x = params.x, .out = params.out, .columns = params.columns, .eps = params.eps};
}

int64_t Grain(const NormParams& params) {
  return std::max<int64_t>(1, kTaskFloats / std::max<int64_t>(1, params.columns));
}

}  // namespace

void RmsNorm(const NormParams& params, const StoredVector& weight, const Context& context) {
  if (params.rows <= 0 || params.columns <= 0) return;
  const IsaKernels& kernels = KernelsFor(context.isa);
  float* wide = context.pool.SharedScratch(params.columns);
  Widen(weight, wide, kernels);
  NormKernelArgs args = Arguments(params);
  args.weight = wide;
  context.pool.ParallelFor(params.rows, Grain(params), [&](int64_t begin, int64_t end, int) {
    kernels.rms_norm(args, begin, end);
  });
}

void LayerNorm(const NormParams& params, const StoredVector& weight, const StoredVector& bias,
               const Context& context) {
  if (params.rows <= 0 || params.columns <= 0) return;
  const IsaKernels& kernels = KernelsFor(context.isa);
  float* wide = context.pool.SharedScratch(2 * params.columns);
  Widen(weight, wide, kernels);
  Widen(bias, wide + params.columns, kernels);
  NormKernelArgs args = Arguments(params);
  args.weight = wide;
  args.bias = wide + params.columns;
  context.pool.ParallelFor(params.rows, Grain(params), [&](int64_t begin, int64_t end, int) {
    kernels.layer_norm(args, begin, end);
  });
}

}  // namespace xcomposer::cpu
