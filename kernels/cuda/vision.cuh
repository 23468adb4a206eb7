#pragma once

#include "kernels/cuda/vector.cuh"
#include "kernels/cuda/vision.h"

namespace xcomposer::cuda {

/// A thread for each pixel.
__global__ void __launch_bounds__(128) NormalisePixelsKernel(NormalisePixelsParams p) {
  GridDependencyLaunch();
  GridDependencyWait();
  const int64_t pixel = static_cast<int64_t>(BlockX()) * BlockThreads() + ThreadIndex();
  if (pixel >= p.pixels) return;
  XCOMPOSER_UNROLL
  for (int channel = 0; channel < 3; ++channel) {
    const int value = Load(p.rgb + 3 * pixel + channel);
    Store(p.out + channel * p.pixels + pixel, Load(p.levels + 256 * channel + value));
  }
}

// Grid of all other kernels here: (rows of the result, parts of a row of 8 numbers per thread).

XCOMPOSER_DEVICE int64_t VisionColumn() {
  return 8 * (static_cast<int64_t>(BlockY()) * BlockThreads() + ThreadIndex());
}

template <typename T>
__global__ void __launch_bounds__(128) PatchRowsKernel(PatchRowsParams p) {
  GridDependencyLaunch();
  GridDependencyWait();
  const int64_t c = VisionColumn();
  if (c >= p.row_length) return;
  const int64_t row = BlockX();
  const int64_t view = row / (p.grid * p.grid);
  const int64_t patch_y = row / p.grid % p.grid;
  const int64_t patch_x = row % p.grid;
  const int64_t side = p.grid * p.patch;
  const int64_t area = p.patch * p.patch;
  float eight[8];
  XCOMPOSER_UNROLL
  for (int i = 0; i < 8; ++i) {
    const int64_t k = c + i;
    const int64_t y = patch_y * p.patch + k % area / p.patch;
    const int64_t x = patch_x * p.patch + k % p.patch;
    // Past the three channels the row is padded.
    eight[i] = k < 3 * area ? Load(p.views + ((view * 3 + k / area) * side + y) * side + x) : 0.0f;
  }
  StoreEight(static_cast<T*>(p.out) + row * p.row_length + c, eight);
}

template <typename T>
__global__ void __launch_bounds__(128) VisionEmbedKernel(VisionEmbedParams p) {
  GridDependencyLaunch();
  GridDependencyWait();
  const int64_t c = VisionColumn();
  if (c >= p.columns) return;
  const int64_t row = BlockX();
  const int64_t view = row / (p.patch_count + 1);
  const int64_t place = row % (p.patch_count + 1);  // 0: the class
  float sum[8];
  float position[8];
  if (place == 0) {
    LoadEight(static_cast<const T*>(p.class_embedding) + c, sum);
  } else {
    LoadEight(p.patches + (view * p.patch_count + place - 1) * p.columns + c, sum);
  }
  LoadEight(static_cast<const T*>(p.position_embedding) + place * p.columns + c, position);
  XCOMPOSER_UNROLL
  for (int i = 0; i < 8; ++i) sum[i] += position[i];
  StoreEight(p.out + row * p.columns + c, sum);
}

template <typename T>
__global__ void __launch_bounds__(128) DropClassKernel(DropClassParams p) {
  GridDependencyLaunch();
  GridDependencyWait();
  const int64_t c = VisionColumn();
  if (c >= p.columns) return;
  const int64_t row = BlockX();
  const int64_t source = row + row / p.patch_count + 1;
  float eight[8];
  LoadEight(p.features + source * p.columns + c, eight);
  StoreEight(static_cast<T*>(p.out) + row * p.columns + c, eight);
}

/// What stands in a row of the merged picture: a token of some view, or a separator.
struct MergedToken {
  int64_t view = 0;
  int64_t y = 0;
  int64_t x = 0;
  bool sub_gn = false;
  bool glb_gn = false;
};

XCOMPOSER_DEVICE MergedToken TokenOfRow(const MergeParams& p, int64_t row) {
  const int64_t m = p.grid / 2;
  const int64_t global_rows = m * (m + 1);
  MergedToken token;
  if (row < global_rows) {
    token.y = row / (m + 1);
    token.x = row % (m + 1);
    token.sub_gn = token.x == m;
  } else if (row == global_rows) {
    token.glb_gn = true;
  } else {
    const int64_t line = p.tile_columns * m + 1;  // tokens across all tiles, and their separator
    const int64_t y = (row - global_rows - 1) / line;
    const int64_t x = (row - global_rows - 1) % line;
    token.sub_gn = x == line - 1;
    token.view = 1 + y / m * p.tile_columns + x / m;
    token.y = y % m;
    token.x = x % m;
  }
  return token;
}

template <typename T>
__global__ void __launch_bounds__(128) MergeKernel(MergeParams p) {
  GridDependencyLaunch();
  GridDependencyWait();
  const int64_t c = VisionColumn();
  if (c >= 4 * p.columns) return;
  const int64_t row = BlockX();
  const MergedToken token = TokenOfRow(p, row);
  float eight[8];
  if (token.glb_gn) {
    LoadEight(static_cast<const T*>(p.glb_gn) + c, eight);
  } else if (token.sub_gn) {
    LoadEight(static_cast<const T*>(p.sub_gn) + c, eight);
  } else {
    const int64_t quarter = c / p.columns;  // upper left, upper right, lower left, lower right
    const int64_t y = 2 * token.y + quarter / 2;
    const int64_t x = 2 * token.x + quarter % 2;
    // Row 0 of a view is the class.
    const int64_t source = token.view * (p.grid * p.grid + 1) + 1 + y * p.grid + x;
    LoadEight(p.features + source * p.columns + c % p.columns, eight);
  }
  StoreEight(static_cast<T*>(p.out) + row * 4 * p.columns + c, eight);
}

}  // namespace xcomposer::cuda
