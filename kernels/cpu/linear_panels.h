#pragma once

#include "kernels/cpu/kernel_args.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/tile.h"

namespace xcomposer::cpu {

// Many rows of x (prompts, pictures): x is packed once, by all threads, into pieces of kDepth
// inputs and in them into panels of S::kRows rows (piece, panel, k, row); then each task takes a
// block of x and a range of the weight's rows, widens a piece of the weight at a time into a panel
// (k, n) that stays in the first cache, and multiplies it with all panels of its block of x. A sum
// is taken over k in pieces of kDepth, ascending, whatever the blocks.
//
// A piece of the block of x, and the sums of the task, lie without gaps: rows of x and y are often
// a power of two apart, and then a few of them would fill their places in the second cache.

inline constexpr int64_t kDepth = 192;

template <typename S>
inline constexpr int64_t kPanelColumns = S::kVectors* S::kWidth;

/// out[k][i] = rows[i][k], k < depth.
template <typename S>
XCOMPOSER_INLINE void PackSideBySide(const float* (&rows)[S::kRows], int64_t depth, float* out) {
  int64_t k = 0;
  for (; k + 8 <= depth; k += 8) {
    S::PackRows(rows, out + k * S::kRows, S::kRows);
    for (int i = 0; i < S::kRows; ++i) rows[i] += 8;
  }
  for (; k < depth; ++k) {
    for (int i = 0; i < S::kRows; ++i) out[k * S::kRows + i] = *rows[i]++;
  }
}

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
  PackSideBySide<S>(pointers, depth, out);
}

/// Where the inputs of the panel at `row` lie, from k on to the end of k's piece.
template <typename S>
XCOMPOSER_INLINE float* PackedPlace(const LinearKernelArgs& args, int64_t row, int64_t k) {
  const int64_t piece = k - k % kDepth;
  const int64_t depth = args.depth - piece < kDepth ? args.depth - piece : kDepth;
  return args.packed_x + piece * args.packed_rows + row * depth + (k - piece) * S::kRows;
}

template <typename S>
void LinearPackX(const LinearKernelArgs& args, int64_t panel_begin, int64_t panel_end) {
  for (int64_t panel = panel_begin; panel < panel_end; ++panel) {
    const int64_t row = panel * S::kRows;
    for (int64_t k = 0; k < args.depth; k += kDepth) {
      const int64_t depth = args.depth - k < kDepth ? args.depth - k : kDepth;
      PackPanel<S>(args.x + k, args.x_stride, row, args.rows, depth, PackedPlace<S>(args, row, k));
    }
  }
}

/// Where the columns of a panel of the weight go.
struct PanelPlace {
  float* out = nullptr;
  int64_t stride = 0;
};

/// The piece of the weight that comes next, as it is stored. Its rows are short and far apart,
/// where the processor does not look ahead by itself, so tiles ask for some lines: before they
/// begin, or, where there are many, with each stretch that they multiply. All at once, while a
/// panel was packed, took up to a quarter longer.
struct LinesAhead {
  const char* row = nullptr;
  int64_t stride = 0;  ///< bytes from row to row
  int64_t rows = 0;    ///< left to ask for
  int64_t bytes = 0;   ///< of a row
  int64_t place = 0;   ///< in the row
  int64_t at_a_time = 0;

  XCOMPOSER_INLINE int64_t Lines() const { return rows * ((bytes + 63) / 64); }

  /// Spreads them over so many calls of Fetch.
  XCOMPOSER_INLINE void SpreadOver(int64_t calls) { at_a_time = (Lines() + calls - 1) / calls; }

  template <typename S>
  XCOMPOSER_INLINE void Fetch() {
    for (int64_t i = 0; i < at_a_time && rows > 0; ++i) {
      S::Prefetch(row + place);
      place += 64;
      if (place < bytes) continue;
      place = 0;
      row += stride;
      --rows;
    }
  }
};

/// Where the inputs that are multiplied together from k on end, of a weight that does not care.
XCOMPOSER_INLINE int64_t EndOfPiece(const LinearKernelArgs& args, int64_t k) {
  const int64_t end = k - k % kDepth + kDepth;
  return end < args.depth ? end : args.depth;
}

/// A dense weight for LinearPanels.
template <typename S, Format format>
struct DenseWeight {
  static constexpr bool kScalesSums = false;

  static int64_t End(const LinearKernelArgs& args, int64_t k) { return EndOfPiece(args, k); }

  /// Where weight[n .. n + columns)[k .. k + depth) lies.
  static LinesAhead Ahead(const LinearKernelArgs& args, int64_t n, int64_t columns, int64_t k,
                          int64_t depth) {
    return {.row = static_cast<const char*>(args.weight) +
                   (n * args.weight_stride + k) * SizeOf(format),
            .stride = args.weight_stride * SizeOf(format),
            .rows = columns,
            .bytes = depth * SizeOf(format)};
  }

  /// Widens weight[n .. n + columns)[k .. k + depth) into out[k][n], rows `stride` apart.
  static void Pack(const LinearKernelArgs& args, int64_t n, int64_t columns, int64_t k,
                   int64_t depth, PanelPlace place) {
    for (int64_t end = n + columns; n < end; n += S::kWidth) {
      PackVector(args, n, k, depth, place);
      place.out += S::kWidth;
    }
  }

 private:
  static void PackVector(const LinearKernelArgs& args, int64_t n, int64_t k, int64_t depth,
                         const PanelPlace& place) {
    using Element = typename ElementOf<format>::Type;
    constexpr int64_t kStep = S::template kPackColumns<format>;
    const Element* rows[S::kWidth];
    for (int64_t i = 0; i < S::kWidth; ++i) {
      const int64_t row = n + i < args.outputs ? n + i : args.outputs - 1;
      rows[i] = static_cast<const Element*>(args.weight) + row * args.weight_stride + k;
    }
    int64_t p = 0;
    for (; p + kStep <= depth; p += kStep) {
      S::template PackWeights<format>(rows, place.out + p * place.stride, place.stride);
      for (int64_t i = 0; i < S::kWidth; ++i) rows[i] += kStep;
    }
    for (; p < depth; ++p) {
      for (int64_t i = 0; i < S::kWidth; ++i) {
        place.out[p * place.stride + i] = Widen<S, format>(rows[i]++);
      }
    }
  }
};

// Lines of the weight that a tile asks for before it begins; where there are more for each, it asks
// after every kStretch inputs, which costs a twentieth of its own time.
inline constexpr int64_t kLinesAtOnce = 12;
inline constexpr int64_t kStretch = 16;

/// All panels of x of the block with one widened panel of the weight, pieces [k, k + depth) of
/// both. `sums`: (row, column of the panel). `scales`: where kScales, what products are multiplied
/// with, by column.
template <typename S, bool kScales>
inline void MultiplyPanel(const LinearKernelArgs& args, const LinearBlock& block, int64_t k,
                          int64_t depth, const float* weight, LinesAhead ahead, const float* scales,
                          float* sums) {
  const int64_t width = block.n_end - block.n_begin;
  const int vectors = static_cast<int>((width + S::kWidth - 1) / S::kWidth);
  const bool first = k == 0;
  const int64_t panels = (block.row_end - block.row_begin + S::kRows - 1) / S::kRows;
  // Strides that the compiler knows are worth 7 % of AVX2's time.
  TileFactors factors{
      .depth = depth, .a_stride = S::kRows, .b = weight, .b_stride = kPanelColumns<S>};
  if (ahead.Lines() > kLinesAtOnce * panels) factors.stretch = kStretch;
  ahead.SpreadOver(panels * ((depth + factors.stretch - 1) / factors.stretch));
  const auto between = [&ahead]() __attribute__((always_inline)) { ahead.Fetch<S>(); };
  for (int64_t panel = 0; panel < panels; ++panel) {
    const int64_t row = block.row_begin + panel * S::kRows;
    const int64_t rows = block.row_end - row;
    factors.a = PackedPlace<S>(args, row, k);
    const auto finish =
        [ sums, first, scales ](int i, int v, typename S::F sum) __attribute__((always_inline)) {
      float* place = sums + i * kPanelColumns<S> + v * S::kWidth;
      if constexpr (kScales) sum = S::Mul(sum, S::Load(scales + v * S::kWidth));
      S::Store(place, first ? sum : S::Add(S::Load(place), sum));
    };
    if (rows >= S::kRows && vectors == S::kVectors) {
      Tile<S, S::kRows, S::kVectors>(factors, between, finish);
    } else {
      TileOf<S>(rows < S::kRows ? static_cast<int>(rows) : S::kRows, vectors, factors, between,
                finish);
    }
    sums += S::kRows * kPanelColumns<S>;
  }
}

/// y = (y or nothing) + bias + scale * sums for the outputs of one panel of the weight.
template <typename S, int64_t kColumns = kPanelColumns<S>>
inline void FinishPanel(const LinearKernelArgs& args, const LinearBlock& block, const float* sums) {
  using F = typename S::F;
  const F scale = S::Set(args.scale);
  for (int64_t row = block.row_begin; row < block.row_end; ++row) {
    float* y = args.y + row * args.y_stride;
    for (int64_t n = block.n_begin; n < block.n_end; n += S::kWidth) {
      F value = S::Mul(scale, S::Load(sums + n - block.n_begin));
      if (block.n_end - n >= S::kWidth) {
        if (args.bias != nullptr) value = S::Add(value, S::Load(args.bias + n));
        if (args.accumulate) value = S::Add(S::Load(y + n), value);
        S::Store(y + n, value);
      } else {
        const int64_t left = block.n_end - n;
        if (args.bias != nullptr) value = S::Add(value, S::LoadN(args.bias + n, left));
        if (args.accumulate) value = S::Add(S::LoadN(y + n, left), value);
        S::StoreN(y + n, value, left);
      }
    }
    sums += kColumns;
  }
}

/// The block of x rows [row_begin, row_end) (row_begin a multiple of S::kRows) with the weight's
/// rows [n_begin, n_end) (n_begin a multiple of the panel). `Weight` gives pieces of the weight:
/// DenseWeight, PackedWeight. `memory`: kDepth * kPanelColumns floats for the panel and
/// one for each sum, in whole panels.
template <typename S, typename Weight>
void LinearPanels(const LinearKernelArgs& args, const LinearBlock& block, float* memory) {
  constexpr int64_t kColumns = kPanelColumns<S>;
  float* panel = memory;
  float* sums = memory + kDepth * kColumns;
  const int64_t panel_sums =
      (block.row_end - block.row_begin + S::kRows - 1) / S::kRows * S::kRows * kColumns;
  const auto columns = [&](int64_t n) {
    return LinearBlock{.row_begin = block.row_begin,
                       .row_end = block.row_end,
                       .n_begin = n,
                       .n_end = n + kColumns < block.n_end ? n + kColumns : block.n_end};
  };
  // At the end of the columns, the first of the next inputs is next.
  const auto ahead = [&](const LinearBlock& column, int64_t k) {
    const bool last = column.n_end == block.n_end;
    const LinearBlock next = columns(last ? block.n_begin : column.n_end);
    if (last) k = Weight::End(args, k);
    if (k == args.depth) return LinesAhead{};
    return Weight::Ahead(args, next.n_begin, next.n_end - next.n_begin, k,
                         Weight::End(args, k) - k);
  };
  for (int64_t k = 0, end = 0; k < args.depth; k = end) {
    end = Weight::End(args, k);
    for (int64_t n = block.n_begin; n < block.n_end; n += kColumns) {
      const LinearBlock column = columns(n);
      float scales[Weight::kScalesSums ? kColumns : 1] = {};
      if constexpr (Weight::kScalesSums) Weight::Scales(args, n, column.n_end - n, k, scales);
      Weight::Pack(args, n, column.n_end - n, k, end - k, {panel, kColumns});
      MultiplyPanel<S, Weight::kScalesSums>(args, column, k, end - k, panel, ahead(column, k),
                                            scales,
                                            sums + (n - block.n_begin) / kColumns * panel_sums);
    }
  }
  for (int64_t n = block.n_begin; n < block.n_end; n += kColumns) {
    FinishPanel<S>(args, columns(n), sums + (n - block.n_begin) / kColumns * panel_sums);
  }
}

}  // namespace xcomposer::cpu
