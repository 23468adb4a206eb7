#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/vision.cuh"

namespace xcomposer::cuda {
namespace {

constexpr int kThreads = 128;

LaunchShape RowShape(int64_t rows, int64_t columns) {
  return {.grid_x = rows, .grid_y = CeilDivide(columns, 8 * kThreads), .threads = kThreads};
}

bool WholeVectors(int64_t columns) { return columns > 0 && columns % 8 == 0; }

}  // namespace

cudaError_t NormalisePixels(const NormalisePixelsParams& params, const Context& context) {
  if (params.pixels < 0) return cudaErrorInvalidValue;
  return Launch(NormalisePixelsKernel,
                {.grid_x = CeilDivide(params.pixels, kThreads), .threads = kThreads}, params,
                context);
}

cudaError_t PatchRows(const PatchRowsParams& params, const Context& context) {
  if (params.views_count < 0 || params.grid <= 0 || params.patch <= 0 ||
      !WholeVectors(params.row_length) || params.row_length < 3 * params.patch * params.patch) {
    return cudaErrorInvalidValue;
  }
  if (!Aligned16(params.out)) return cudaErrorMisalignedAddress;
  const LaunchShape shape =
      RowShape(params.views_count * params.grid * params.grid, params.row_length);
  return ForFormat(params.format, [&](auto number) {
    return Launch(PatchRowsKernel<decltype(number)>, shape, params, context);
  });
}

cudaError_t VisionEmbed(const VisionEmbedParams& params, const Context& context) {
  if (params.views_count < 0 || params.patch_count <= 0 || !WholeVectors(params.columns)) {
    return cudaErrorInvalidValue;
  }
  if (!Aligned16(params.patches, params.class_embedding, params.position_embedding, params.out)) {
    return cudaErrorMisalignedAddress;
  }
  const LaunchShape shape = RowShape(params.views_count * (params.patch_count + 1), params.columns);
  return ForFormat(params.format, [&](auto number) {
    return Launch(VisionEmbedKernel<decltype(number)>, shape, params, context);
  });
}

cudaError_t DropClass(const DropClassParams& params, const Context& context) {
  if (params.views_count < 0 || params.patch_count <= 0 || !WholeVectors(params.columns)) {
    return cudaErrorInvalidValue;
  }
  if (!Aligned16(params.features, params.out)) return cudaErrorMisalignedAddress;
  const LaunchShape shape = RowShape(params.views_count * params.patch_count, params.columns);
  return ForFormat(params.format, [&](auto number) {
    return Launch(DropClassKernel<decltype(number)>, shape, params, context);
  });
}

cudaError_t Merge(const MergeParams& params, const Context& context) {
  if (params.grid <= 0 || params.grid % 2 != 0 || !WholeVectors(params.columns) ||
      params.tile_rows < 0 || params.tile_columns < 0) {
    return cudaErrorInvalidValue;
  }
  if (!Aligned16(params.features, params.sub_gn, params.glb_gn, params.out)) {
    return cudaErrorMisalignedAddress;
  }
  const LaunchShape shape =
      RowShape(MergedRows(params.grid, params.tile_rows, params.tile_columns), 4 * params.columns);
  return ForFormat(params.format, [&](auto number) {
    return Launch(MergeKernel<decltype(number)>, shape, params, context);
  });
}

}  // namespace xcomposer::cuda
