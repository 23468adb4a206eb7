#pragma once

#include <cstdint>

#include "kernels/cuda/context.h"
#include "kernels/cuda/number.h"

namespace xcomposer::cuda {

/// Bytes of a picture to planes of normalised numbers.
struct NormalisePixelsParams {
  const uint8_t* rgb = nullptr;   ///< (pixels, 3)
  const float* levels = nullptr;  ///< (3, 256): what each value of a channel becomes
  float* out = nullptr;           ///< (3, pixels)
  int64_t pixels = 0;
};

cudaError_t NormalisePixels(const NormalisePixelsParams& params, const Context& context);

/// The 14x14 convolution with stride 14 as a product: its left side, a row for each patch.
struct PatchRowsParams {
  const float* views = nullptr;  ///< (n, 3, grid * patch, grid * patch), normalised pixels
  void* out = nullptr;           ///< (n * grid * grid, row_length), as stored
  int64_t views_count = 0;
  int64_t grid = 0;
  int64_t patch = 0;
  int64_t row_length = 0;  ///< 3 * patch * patch and zeros up to a multiple of 8
  Format format = Format::kFloat16;
};

/// Patches row by row, each as (channel, y, x).
cudaError_t PatchRows(const PatchRowsParams& params, const Context& context);

struct VisionEmbedParams {
  const float* patches = nullptr;            ///< (n, N, C): the patches' products
  const void* class_embedding = nullptr;     ///< (C), as stored
  const void* position_embedding = nullptr;  ///< (N + 1, C), as stored
  float* out = nullptr;                      ///< (n, N + 1, C): the tower's residual stream
  int64_t views_count = 0;
  int64_t patch_count = 0;  ///< N
  int64_t columns = 0;      ///< C, a multiple of 8
  Format format = Format::kFloat16;
};

/// The class embedding, then the patches, all with their positions added.
cudaError_t VisionEmbed(const VisionEmbedParams& params, const Context& context);

/// What the projector sees of a picture that is not tiled: all rows of the one view but the
/// class's.
struct DropClassParams {
  const float* features = nullptr;  ///< (n, N + 1, C)
  void* out = nullptr;              ///< (n * N, C), as stored
  int64_t views_count = 0;
  int64_t patch_count = 0;
  int64_t columns = 0;
  Format format = Format::kFloat16;
};

cudaError_t DropClass(const DropClassParams& params, const Context& context);

/// 2x2 neighbours side by side, rows of tokens ended by sub_gn, the global view and the tiles
/// parted by glb_gn (model specification 3.5).
struct MergeParams {
  const float* features = nullptr;  ///< (1 + tile_rows * tile_columns, grid * grid + 1, C)
  const void* sub_gn = nullptr;     ///< (4 C), as stored
  const void* glb_gn = nullptr;     ///< (4 C), as stored
  void* out = nullptr;              ///< (MergedRows, 4 C), as stored
  int64_t grid = 0;                 ///< even
  int64_t columns = 0;              ///< C, a multiple of 8
  int64_t tile_rows = 0;
  int64_t tile_columns = 0;
  Format format = Format::kFloat16;
};

/// Rows of tokens and separators of one picture.
constexpr int64_t MergedRows(int64_t grid, int64_t tile_rows, int64_t tile_columns) {
  const int64_t m = grid / 2;
  return m * (m + 1) + 1 + tile_rows * m * (tile_columns * m + 1);
}

cudaError_t Merge(const MergeParams& params, const Context& context);

}  // namespace xcomposer::cuda
