#pragma once

#include "kernels/cpu/bf12_rows.h"
#include "kernels/cpu/kernel_args.h"
#include "kernels/cpu/linear_panels.h"
#include "kernels/cpu/simd.h"

namespace xcomposer::cpu {

// Many rows of x with a bfloat16 weight, by tiles: 16 rows of 64 bytes each, and one instruction
// that adds to a tile of 16 x 16 float32 sums the products of 16 rows of 32 bfloat16 with 16
// others.
//
// x is float32. Each number is the sum of three bfloat16: the nearest, the nearest to what is left,
// and what is then left, which fits. Products with each are exact in float32, so that all error is
// that of float32 sums: 16 roundings in a step of 32 inputs and one for each step and part, fewer
// than the K of a sum one by one. They are taken in ascending order of k whatever the pieces and
// blocks: in a step even and odd inputs apart, the products with the first parts before those with
// the second and third. Numbers below 2^-126 count as zero, parts of numbers too. An infinite
// weight gives no number, where float32 may give infinity.
//
// With one part of the three, x is rounded to bfloat16.
//
// Rows of the weight are rows of the first factor. They are copied, piece by piece, so that a tile
// lies in 16 lines that follow each other: rows of a matrix are often a power of two apart, and
// then all of a tile's would fall into the same place of the first cache. The copy fills up what
// the shape lacks, too. Rows of x are columns of the second factor; they are packed once.
//
// S adds to simd.h:
//
// clang-format off
//   BeginTiles(), EndTiles()       around all that follows, in each thread
//   ZeroTile<t>()                  tiles t = 0 .. 7
//   LoadTile<t>(p, stride)         rows of 64 bytes `stride` bytes apart
//   StoreTile<t>(p, stride)
//   DotBfloats<c, a, b>()          c[i][j] += the sum over l < 32 of a[i][l] b[l / 2][2 j + l % 2]
//   DotSigned<c, a, b>()           ... l < 64 of a[i][l] b[l / 4][4 j + l % 4], int8 times uint8
//   DotUnsigned<c, a, b>()         the same, uint8 times uint8
//   PackPairs<parts>(rows, count, out)  out[part][l / 2][2 j + l % 2] = part of rows[j][l], the
//                                  first `parts` of three; zeros for l >= count
//   TurnTile(tile, out, stride)    out[j * stride + i] = tile[i][j]
//   JoinPlanes(a, b)               256 a + b in 32 bits
// clang-format on

/// Rows or columns of a tile of sums, and how many are worked on together in each direction.
inline constexpr int64_t kTileRows = 16;
inline constexpr int64_t kTilePanel = 2 * kTileRows;
/// bfloat16 in a row of a tile, and bytes of a tile.
inline constexpr int64_t kTileInputs = 32;
inline constexpr int64_t kTileBytes = 1024;
/// Inputs of which the weight is copied at a time: a panel of them takes 32 KiB.
inline constexpr int64_t kTileDepth = 512;
/// Fewer inputs are not worth a step.
inline constexpr int64_t kLeastTileDepth = kTileInputs;
/// bfloat16 that hold all of a float32.
inline constexpr int kAllParts = 3;

/// S with vectors of a panel of tiles, for FinishPanel.
template <typename S>
struct TilePanel : S {
  static constexpr int kVectors = kTilePanel / S::kWidth;
};

/// Inputs of the piece at k, filled up to whole tiles.
XCOMPOSER_INLINE int64_t PieceDepth(const LinearKernelArgs& args, int64_t k) {
  const int64_t depth = args.depth - k < kTileDepth ? args.depth - k : kTileDepth;
  return (depth + kTileInputs - 1) / kTileInputs * kTileInputs;
}

/// Where the piece at k of the panel of x at `row` begins: (step of 32 inputs, tile of 16 rows,
/// part of the numbers, tile).
template <int kParts>
XCOMPOSER_INLINE char* TilesOfX(const LinearKernelArgs& args, int64_t row, int64_t k) {
  const int64_t inputs = k * args.packed_rows + row * PieceDepth(args, k);
  return reinterpret_cast<char*>(args.packed_x) + 2 * kParts * inputs;
}

template <typename S, int kParts>
void PackTilesOfX(const LinearKernelArgs& args, int64_t panel_begin, int64_t panel_end) {
  for (int64_t row = panel_begin * kTilePanel; row < panel_end * kTilePanel; row += kTileRows) {
    if (row >= args.rows) return;  // an upper half that nobody reads
    const float* rows[kTileRows];
    for (int64_t k = 0; k < args.depth; k += kTileDepth) {
      // Rows past the end repeat the last one: their sums are never asked for.
      for (int64_t i = 0; i < kTileRows; ++i) {
        rows[i] = args.x + (row + i < args.rows ? row + i : args.rows - 1) * args.x_stride + k;
      }
      char* out = TilesOfX<kParts>(args, row - row % kTilePanel, k);
      if (row % kTilePanel != 0) out += kParts * kTileBytes;
      for (int64_t left = args.depth - k < kTileDepth ? args.depth - k : kTileDepth; left > 0;
           left -= kTileInputs) {
        S::template PackPairs<kParts>(rows, left < kTileInputs ? left : kTileInputs,
                                      reinterpret_cast<uint16_t*>(out));
        for (const float*& x : rows) x += kTileInputs;
        out += 2 * kParts * kTileBytes;
      }
    }
  }
}

/// Copies weight[n .. n + 16)[k .. k + depth) into tiles `2 * kTileBytes` apart. Rows past the end
/// repeat the last one, inputs past the end are zeros.
template <typename S>
inline void CopyTilesOfWeight(const LinearKernelArgs& args, int64_t n, int64_t k, char* out) {
  const int64_t left = args.depth - k < kTileDepth ? args.depth - k : kTileDepth;
  for (int64_t i = 0; i < kTileRows; ++i) {
    const int64_t row = n + i < args.outputs ? n + i : args.outputs - 1;
    const auto* from = static_cast<const char*>(args.weight) + 2 * (row * args.weight_stride + k);
    char* to = out + i * 64;
    int64_t p = 0;
    for (; p + kTileInputs <= left; p += kTileInputs) {
      for (int64_t byte = 0; byte < 64; byte += 4 * S::kWidth) {
        S::StoreWords(reinterpret_cast<uint32_t*>(to + byte),
                      S::LoadWords(reinterpret_cast<const uint32_t*>(from + byte)));
      }
      // The same inputs of the next panel.
      S::Prefetch(from + 2 * kTilePanel * args.weight_stride);
      from += 64;
      to += 2 * kTileBytes;
    }
    if (p < left) {
      for (int64_t byte = 0; byte < 64; ++byte) to[byte] = byte < 2 * (left - p) ? from[byte] : 0;
    }
  }
}

/// A bfloat16 weight for LinearTiles.
template <typename S>
struct DenseTiles {
  /// Copies weight[n .. n + kTilePanel)[k .. k + kTileDepth) into tiles in turns, what there is of
  /// it before n_end.
  static void Copy(const LinearKernelArgs& args, int64_t n, int64_t n_end, int64_t k, char* out) {
    CopyTilesOfWeight<S>(args, n, k, out);
    if (n + kTileRows < n_end) CopyTilesOfWeight<S>(args, n + kTileRows, k, out + kTileBytes);
  }
};

/// The same in 12 bits, by way of it.
template <typename S>
struct Bf12Tiles {
  static void Copy(const LinearKernelArgs& args, int64_t n, int64_t n_end, int64_t k, char* out) {
    static_assert(kTileDepth % kBf12Block == 0 && kTilePanel % kBf12Rows == 0);
    alignas(64) uint16_t numbers[kTilePanel * kTileDepth];
    LinearKernelArgs piece = args;
    piece.weight = numbers;
    piece.weight_stride = kTileDepth;
    piece.outputs = n_end - n < kTilePanel ? n_end - n : kTilePanel;
    piece.depth = args.depth - k < kTileDepth ? args.depth - k : kTileDepth;
    UnpackBf12Piece<S>(args, n, piece.outputs, k, piece.depth, numbers, kTileDepth);
    DenseTiles<S>::Copy(piece, 0, piece.outputs, 0, out);
  }
};

/// One panel of the weight with one of x, a piece of both: adds to (or begins) kOutputs x kRows
/// tiles of sums. Tiles 0 .. 3 hold sums, 4 and 5 the weight, 6 and 7 x.
template <typename S, int kParts, int kOutputs, int kRows>
inline void MultiplyTiles(const char* weight, const char* x, int64_t depth, bool first,
                          float* sums) {
  constexpr int64_t kTileSums = kTileRows * kTileRows;
  constexpr bool kBelow = kOutputs > 1;
  constexpr bool kBeside = kRows > 1;
  if (first) {
    S::template ZeroTile<0>();
    if constexpr (kBeside) S::template ZeroTile<1>();
    if constexpr (kBelow) S::template ZeroTile<2>();
    if constexpr (kBelow && kBeside) S::template ZeroTile<3>();
  } else {
    S::template LoadTile<0>(sums, 64);
    if constexpr (kBeside) S::template LoadTile<1>(sums + kTileSums, 64);
    if constexpr (kBelow) S::template LoadTile<2>(sums + 2 * kTileSums, 64);
    if constexpr (kBelow && kBeside) S::template LoadTile<3>(sums + 3 * kTileSums, 64);
  }
  for (int64_t step = 0; step < depth; step += kTileInputs) {
    S::template LoadTile<4>(weight, 64);
    if constexpr (kBelow) S::template LoadTile<5>(weight + kTileBytes, 64);
    for (int part = 0; part < kParts; ++part) {
      S::template LoadTile<6>(x + part * kTileBytes, 64);
      S::template DotBfloats<0, 4, 6>();
      if constexpr (kBelow) S::template DotBfloats<2, 5, 6>();
      if constexpr (kBeside) {
        S::template LoadTile<7>(x + (kParts + part) * kTileBytes, 64);
        S::template DotBfloats<1, 4, 7>();
        if constexpr (kBelow) S::template DotBfloats<3, 5, 7>();
      }
    }
    weight += 2 * kTileBytes;
    x += 2 * kParts * kTileBytes;
  }
  S::template StoreTile<0>(sums, 64);
  if constexpr (kBeside) S::template StoreTile<1>(sums + kTileSums, 64);
  if constexpr (kBelow) S::template StoreTile<2>(sums + 2 * kTileSums, 64);
  if constexpr (kBelow && kBeside) S::template StoreTile<3>(sums + 3 * kTileSums, 64);
}

template <typename S, int kParts>
inline void MultiplyTilesOf(int64_t outputs, int64_t rows, const char* weight, const char* x,
                            int64_t depth, bool first, float* sums) {
  if (outputs > kTileRows) {
    if (rows > kTileRows) return MultiplyTiles<S, kParts, 2, 2>(weight, x, depth, first, sums);
    return MultiplyTiles<S, kParts, 2, 1>(weight, x, depth, first, sums);
  }
  if (rows > kTileRows) return MultiplyTiles<S, kParts, 1, 2>(weight, x, depth, first, sums);
  return MultiplyTiles<S, kParts, 1, 1>(weight, x, depth, first, sums);
}

/// y of the panel of x at block.row_begin from its tiles of sums.
template <typename S>
inline void FinishTiles(const LinearKernelArgs& args, const LinearBlock& block, const float* sums) {
  alignas(64) float turned[kTilePanel * kTilePanel];
  for (int64_t n = 0; n < block.n_end - block.n_begin; n += kTileRows) {
    for (int64_t row = 0; row < block.row_end - block.row_begin; row += kTileRows) {
      S::TurnTile(sums + n * kTilePanel + row * kTileRows, turned + row * kTilePanel + n,
                  kTilePanel);
    }
  }
  FinishPanel<TilePanel<S>>(args, block, turned);
}

/// Floats of scratch memory that LinearTiles needs beside the sums: a panel of the weight.
inline constexpr int64_t kTileScratch = kTilePanel * kTileDepth / 2;

/// The block of x rows [row_begin, row_end) with the weight's rows [n_begin, n_end), both beginning
/// at multiples of kTilePanel. `memory`: kTileScratch floats and one for each sum, in whole panels;
/// on a line of the cache. `Weight`: DenseTiles, Bf12Tiles.
template <typename S, int kParts, typename Weight>
void LinearTiles(const LinearKernelArgs& args, const LinearBlock& block, float* memory) {
  constexpr int64_t kPanelSums = kTilePanel * kTilePanel;
  auto* weight = reinterpret_cast<char*>(memory);
  const auto panel = [&](int64_t row, int64_t n) {
    return LinearBlock{
        .row_begin = row,
        .row_end = row + kTilePanel < block.row_end ? row + kTilePanel : block.row_end,
        .n_begin = n,
        .n_end = n + kTilePanel < block.n_end ? n + kTilePanel : block.n_end};
  };
  S::BeginTiles();
  for (int64_t k = 0; k < args.depth; k += kTileDepth) {
    float* sums = memory + kTileScratch;
    for (int64_t n = block.n_begin; n < block.n_end; n += kTilePanel) {
      Weight::Copy(args, n, block.n_end, k, weight);
      for (int64_t row = block.row_begin; row < block.row_end; row += kTilePanel) {
        MultiplyTilesOf<S, kParts>(block.n_end - n, block.row_end - row, weight,
                                   TilesOfX<kParts>(args, row, k), PieceDepth(args, k), k == 0,
                                   sums);
        sums += kPanelSums;
      }
    }
  }
  S::EndTiles();
  const float* sums = memory + kTileScratch;
  for (int64_t n = block.n_begin; n < block.n_end; n += kTilePanel) {
    for (int64_t row = block.row_begin; row < block.row_end; row += kTilePanel) {
      FinishTiles<S>(args, panel(row, n), sums);
      sums += kPanelSums;
    }
  }
}

}  // namespace xcomposer::cpu
