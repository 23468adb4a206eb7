#include "kernels/cuda/elementwise.cuh"
#include "kernels/cuda/launch.cuh"

namespace xcomposer::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kPerBlock = 8 * kThreads;

template <typename Of>
cudaError_t Activate(const ActivationParams& params, const Context& context) {
  if (params.count < 0) return cudaErrorInvalidValue;
  if (!Aligned16(params.x)) return cudaErrorMisalignedAddress;
  const LaunchShape shape{.grid_x = CeilDivide(params.count, kPerBlock), .threads = kThreads};
  return ForFormat(params.format, [&](auto number) {
    return Launch(ActivationKernel<decltype(number), Of>, shape, params, context);
  });
}

cudaError_t CheckRows(int64_t rows, int64_t columns) {
  return rows < 0 || columns <= 0 || columns % 8 != 0 ? cudaErrorInvalidValue : cudaSuccess;
}

LaunchShape RowShape(int64_t rows, int64_t columns) {
  return {.grid_x = rows, .grid_y = CeilDivide(columns, kPerBlock), .threads = kThreads};
}

}  // namespace

cudaError_t QuickGelu(const ActivationParams& params, const Context& context) {
  return Activate<QuickGeluOf>(params, context);
}

cudaError_t Gelu(const ActivationParams& params, const Context& context) {
  return Activate<GeluOf>(params, context);
}

cudaError_t SiluMul(const SiluMulParams& params, const Context& context) {
  if (const cudaError_t status = CheckRows(params.rows, params.columns); status != cudaSuccess) {
    return status;
  }
  for (const int64_t stride : {params.in_stride, params.out_stride}) {
    if (stride < params.columns || stride % 8 != 0) return cudaErrorInvalidValue;
  }
  if (!Aligned16(params.gate, params.up, params.out)) return cudaErrorMisalignedAddress;
  return ForFormat(params.format, [&](auto number) {
    return Launch(SiluMulKernel<decltype(number)>, RowShape(params.rows, params.columns), params,
                  context);
  });
}

cudaError_t Add(const AddParams& params, const Context& context) {
  if (params.count < 0) return cudaErrorInvalidValue;
  if (!Aligned16(params.y, params.x)) return cudaErrorMisalignedAddress;
  const LaunchShape shape{.grid_x = CeilDivide(params.count, kPerBlock), .threads = kThreads};
  return ForFormat(params.format, [&](auto number) {
    return Launch(AddKernel<decltype(number)>, shape, params, context);
  });
}

cudaError_t Embedding(const EmbeddingParams& params, const Context& context) {
  if (const cudaError_t status = CheckRows(params.rows, params.columns); status != cudaSuccess) {
    return status;
  }
  if (params.vocab <= 0) return cudaErrorInvalidValue;
  if (!Aligned16(params.table, params.out)) return cudaErrorMisalignedAddress;
  return ForFormat(params.format, [&](auto number) {
    return Launch(EmbeddingKernel<decltype(number)>, RowShape(params.rows, params.columns), params,
                  context);
  });
}

}  // namespace xcomposer::cuda
