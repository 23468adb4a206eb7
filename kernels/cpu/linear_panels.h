#pragma once

#include "kernels/cpu/kernel_args.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/tile.h"

namespace xcomposer::cpu {

// Many rows of x (prompts, pictures): x is packed once, by all threads, into panels of S::kRows
// rows (panel, k, row); then each task takes a block of x and a range of the weight's rows, widens
// a piece of the weight at a time into a panel (k, n) that stays in the first cache, and multiplies
// it with all panels of its block of x. A sum is taken over k in pieces of kDepth, ascending,
// whatever the blocks.

template <typename S>
inline constexpr int64_t kDepth = S::kWidth == 16 ? 192 : 256;

template <typename S>
inline constexpr int64_t kPanelColumns = S::kVectors* S::kWidth;

/// Packs the panel of x that begins at `row`, for k in [0, depth).
template <typename S>
void PackPanel(const float* x, int64_t x_stride, int64_t row, int64_t rows, int64_t depth,
               float* out) {
  const float* pointers[S::kRows];
  // Rows past the end repeat the last one: their sums are never asked for.
  for (int i = 0; i < S::kRows; ++i) {
    const int64_t r = row + i < rows ? row + i : rows - 1;
    pointers[i] = x + r * x_stride;
  }
  int64_t k = 0;
  for (; k + 8 <= depth; k += 8) {
    S::PackRows(pointers, out + k * S::kRows, S::kRows);
    for (int i = 0; i < S::kRows; ++i) pointers[i] += 8;
  }
  for (; k < depth; ++k) {
    for (int i = 0; i < S::kRows; ++i) out[k * S::kRows + i] = *pointers[i]++;
  }
}

template <typename S>
void LinearPackX(const LinearKernelArgs& args, int64_t panel_begin, int64_t panel_end) {
  for (int64_t panel = panel_begin; panel < panel_end; ++panel) {
    PackPanel<S>(args.x, args.x_stride, panel * S::kRows, args.rows, args.depth,
                 args.packed_x + panel * S::kRows * args.depth);
  }
}

/// A dense weight for LinearPanels.
template <typename S, Format format>
struct DenseWeight {
  /// Widens weight[n .. n + kWidth)[k .. k + depth) into out[k][n], rows `stride` apart.
  static void Pack(const LinearKernelArgs& args, int64_t n, int64_t k, int64_t depth, float* out,
                   int64_t stride) {
    using Element = typename ElementOf<format>::Type;
    constexpr int64_t kStep = S::template kPackColumns<format>;
    const Element* rows[S::kWidth];
    for (int64_t i = 0; i < S::kWidth; ++i) {
      const int64_t row = n + i < args.outputs ? n + i : args.outputs - 1;
      rows[i] = static_cast<const Element*>(args.weight) + row * args.weight_stride + k;
    }
    int64_t p = 0;
    for (; p + kStep <= depth; p += kStep) {
      S::template PackWeights<format>(rows, out + p * stride, stride);
      for (int64_t i = 0; i < S::kWidth; ++i) rows[i] += kStep;
    }
    for (; p < depth; ++p) {
      for (int64_t i = 0; i < S::kWidth; ++i) {
        out[p * stride + i] = Widen<S, format>(rows[i]++);
      }
    }
  }
};

/// What becomes of the sums of one tile: y = (first ? bias : y) + scale * sum, cut to the columns
/// that exist. kWhole: all columns of the tile do.
template <typename S, bool kWhole>
struct LinearFinish {
  float* y;  ///< of the tile's first row and column
  int64_t y_stride;
  int64_t width;      ///< columns that exist from there on
  const float* bias;  ///< null: none, or not this time
  bool add;           ///< to what y holds
  typename S::F scale;

  XCOMPOSER_INLINE void operator()(int i, int v, typename S::F sum) const {
    using F = typename S::F;
    const int64_t offset = v * S::kWidth;
    float* place = y + i * y_stride + offset;
    F value = S::Mul(scale, sum);
    if (kWhole || width - offset >= S::kWidth) {
      if (bias != nullptr) value = S::Add(value, S::Load(bias + offset));
      if (add) value = S::Add(S::Load(place), value);
      S::Store(place, value);
    } else {
      const int64_t left = width - offset;
      if (bias != nullptr) value = S::Add(value, S::LoadN(bias + offset, left));
      if (add) value = S::Add(S::LoadN(place, left), value);
      S::StoreN(place, value, left);
    }
  }
};

/// All panels of x of the block with one widened panel of the weight, pieces [k, k + depth) of
/// both.
template <typename S>
inline void MultiplyPanel(const LinearKernelArgs& args, const LinearBlock& block, int64_t k,
                          const TileFactors& weight) {
  const int64_t n = block.n_begin;
  const int64_t width = block.n_end - n;
  const float* bias = k == 0 && args.bias != nullptr ? args.bias + n : nullptr;
  const bool add = k > 0 || args.accumulate;
  const int vectors = static_cast<int>((width + S::kWidth - 1) / S::kWidth);
  for (int64_t row = block.row_begin; row < block.row_end; row += S::kRows) {
    const int64_t rows = block.row_end - row;
    TileFactors factors = weight;
    factors.a = args.packed_x + row * args.depth + k * S::kRows;
    factors.a_stride = S::kRows;
    float* y = args.y + row * args.y_stride + n;
    const auto scale = S::Set(args.scale);
    if (rows >= S::kRows && width == kPanelColumns<S>) {
      Tile<S, S::kRows, S::kVectors>(
          factors, LinearFinish<S, true>{y, args.y_stride, width, bias, add, scale});
    } else {
      TileOf<S>(rows < S::kRows ? static_cast<int>(rows) : S::kRows, vectors, factors,
                LinearFinish<S, false>{y, args.y_stride, width, bias, add, scale});
    }
  }
}

/// The block of x rows [row_begin, row_end) (row_begin a multiple of S::kRows) with the weight's
/// rows [n_begin, n_end) (n_begin a multiple of the panel). `Weight` gives pieces of the weight in
/// float32: DenseWeight, PackedWeight. `panel`: scratch of kDepth * kPanelColumns floats.
template <typename S, typename Weight>
void LinearPanels(const LinearKernelArgs& args, const LinearBlock& block, float* panel) {
  for (int64_t k = 0; k < args.depth; k += kDepth<S>) {
    const int64_t depth = args.depth - k < kDepth<S> ? args.depth - k : kDepth<S>;
    for (int64_t n = block.n_begin; n < block.n_end; n += kPanelColumns<S>) {
      const int64_t left = block.n_end - n;
      const LinearBlock column{.row_begin = block.row_begin,
                               .row_end = block.row_end,
                               .n_begin = n,
                               .n_end = n + (left < kPanelColumns<S> ? left : kPanelColumns<S>)};
      for (int64_t v = 0; n + v < column.n_end; v += S::kWidth) {
        Weight::Pack(args, n + v, k, depth, panel + v, kPanelColumns<S>);
      }
      MultiplyPanel<S>(args, column, k, {.depth = depth, .b = panel, .b_stride = kPanelColumns<S>});
    }
  }
}

}  // namespace xcomposer::cpu
