#pragma once

#include "kernels/cpu/amx_panels.h"
#include "kernels/cpu/integer_panels.h"
#include "kernels/cpu/integer_x.h"
#include "kernels/cpu/kernel_args.h"
#include "kernels/cpu/simd.h"

namespace xcomposer::cpu {

// Many rows of x with a weight of 8 bits that rounds x (to 16 bits), by tiles. The results are
// those of integer_panels.h, bit for bit: codes, scales and the order of the float32 sums are the
// same, and sums of integers have no order.
//
// Words in panels are the second factor of a tile's product as they lie: a row of a tile is the
// codes of four inputs for each of 16 outputs, and the next row follows in memory. Codes of x have
// 16 bits; their upper bytes (with the sign) and their lower ones are multiplied apart, and 256
// times one sum plus the other is the sum. A block of 128 inputs is two steps of 64. Blocks of the
// weight are copied, which fills up what the shape lacks with zeros.

/// Inputs in a row of a tile.
inline constexpr int64_t kByteTileInputs = 64;
inline constexpr int64_t kByteTileWords = kByteTileInputs / 4;
inline constexpr int64_t kByteTileBlock = IntegerBlock(Packing::kInt8);
inline constexpr int64_t kByteTileSteps = kByteTileBlock / kByteTileInputs;

/// Codes of x from input k on for the panel of 16 rows at `row`: (step of 64 inputs, upper and
/// lower bytes, tile).
XCOMPOSER_INLINE uint8_t* CodeTilesOfX(const LinearKernelArgs& args, int64_t row, int64_t k) {
  // A block has all its panels side by side; the last one may have one step only.
  const int64_t block = k - k % kByteTileBlock;
  const int64_t steps = args.depth - block > kByteTileInputs ? kByteTileSteps : 1;
  const int64_t inputs = block * args.packed_rows + row * steps * kByteTileInputs;
  return reinterpret_cast<uint8_t*>(args.x_codes) + 2 * inputs;
}

/// Rounds inputs [k_begin, k_end), in whole blocks or to the last, of a panel of 16 rows. Rows past
/// the end are left as they are: their sums are never asked for.
template <typename S>
void RoundTilesOfX(const LinearKernelArgs& args, int64_t panel, int64_t k_begin, int64_t k_end) {
  const int64_t first = panel * kTileRows;
  const int64_t last = args.rows - first < kTileRows ? args.rows : first + kTileRows;
  for (int64_t row = first; row < last; ++row) {
    const int64_t i = row - first;
    for (int64_t k = k_begin; k < k_end; k += kByteTileBlock) {
      const int64_t count = args.depth - k < kByteTileBlock ? args.depth - k : kByteTileBlock;
      const int64_t place = k / kByteTileBlock * args.packed_rows + row;
      uint32_t codes[kByteTileBlock + S::kWidth];
      RoundCodes<S, Packing::kInt8>(args.x + row * args.x_stride + k, count, codes,
                                    args.x_scales + place, args.x_sums + place);
      for (int64_t j = count; j < kByteTileBlock; ++j) codes[j] = 0;
      uint8_t* out = CodeTilesOfX(args, row - i, k) + i * kByteTileInputs;
      for (int64_t step = 0; step < count; step += kByteTileInputs) {
        for (int64_t j = 0; j < kByteTileInputs; ++j) {
          out[j] = static_cast<uint8_t>(codes[step + j] >> 8);
          out[kTileBytes + j] = static_cast<uint8_t>(codes[step + j]);
        }
        out += 2 * kTileBytes;
      }
    }
  }
}

/// A block of the weight's codes for the outputs of a panel, with zeros and scales.
struct CodeTiles {
  uint32_t* words = nullptr;  ///< (step, tile of 16 outputs, tile)
  uint32_t* zeros = nullptr;  ///< (output)
  float* scales = nullptr;    ///< (output)
  int64_t steps = 0;
};

/// Copies the block at input k for outputs n on, below n_end.
template <typename S>
inline void CopyCodes(const LinearKernelArgs& args, int64_t k, int64_t n, int64_t n_end,
                      const CodeTiles& to) {
  static_assert(kTileRows == kPanelOutputs);
  constexpr int64_t kTileWords = kTileBytes / 4;
  const int64_t g = k / args.group;
  const int64_t rows = args.depth / 4 - k / 4;
  for (int64_t tile = 0; tile < kTilePanel / kTileRows && n < n_end; ++tile, n += kTileRows) {
    const StoredPanel<S, Packing::kInt8> stored(args, n / kPanelOutputs);
    const uint32_t* words = stored.words + k / 4 * kPanelOutputs;
    uint32_t* out = to.words + tile * kTileWords;
    for (int64_t row = 0; row < to.steps * kByteTileWords; ++row) {
      for (int64_t lane = 0; lane < kTileRows; lane += S::kWidth) {
        S::StoreWords(out + lane, row < rows ? S::LoadWords(words + lane) : S::SetWords(0));
      }
      words += kPanelOutputs;
      out += kTileRows;
      if ((row + 1) % kByteTileWords == 0) out += kTileWords;  // the other tile's
    }
    for (int64_t lane = 0; lane < kTileRows; lane += S::kWidth) {
      S::StoreWords(to.zeros + tile * kTileRows + lane, stored.Zeros(g, lane));
      S::Store(to.scales + tile * kTileRows + lane, stored.Scales(g, lane));
    }
  }
}

/// Products of a block, 16 rows of x with kOutputs tiles of outputs, into `out`: for each tile of
/// outputs, the sums of the upper bytes and those of the lower. Tiles 0 .. 3 hold them, 4 and 5 x,
/// 6 and 7 the weight.
template <typename S, int kOutputs>
inline void MultiplyCodes(const CodeTiles& weight, const uint8_t* x, uint32_t* out) {
  constexpr int64_t kTileWords = kTileBytes / 4;
  S::template ZeroTile<0>();
  S::template ZeroTile<1>();
  if constexpr (kOutputs > 1) {
    S::template ZeroTile<2>();
    S::template ZeroTile<3>();
  }
  const uint32_t* words = weight.words;
  for (int64_t step = 0; step < weight.steps; ++step) {
    S::template LoadTile<4>(x, 64);
    S::template LoadTile<6>(words, 64);
    S::template DotSigned<0, 4, 6>();
    S::template LoadTile<5>(x + kTileBytes, 64);
    S::template DotUnsigned<1, 5, 6>();
    if constexpr (kOutputs > 1) {
      S::template LoadTile<7>(words + kTileWords, 64);
      S::template DotSigned<2, 4, 7>();
      S::template DotUnsigned<3, 5, 7>();
    }
    x += 2 * kTileBytes;
    words += 2 * kTileWords;
  }
  S::template StoreTile<0>(out, 64);
  S::template StoreTile<1>(out + kTileWords, 64);
  if constexpr (kOutputs > 1) {
    S::template StoreTile<2>(out + 2 * kTileWords, 64);
    S::template StoreTile<3>(out + 3 * kTileWords, 64);
  }
}

/// Adds the products of a block to `sums` (row, output of the panel), as IntegerTile does. `scales`
/// and `x_sums` are those of the rows.
template <typename S>
inline void AddCodes(const CodeTiles& weight, const uint32_t* products, const float* scales,
                     const int32_t* x_sums, const LinearBlock& block, float* sums) {
  constexpr int64_t kTileWords = kTileBytes / 4;
  for (int64_t v = 0; v < block.n_end - block.n_begin; v += S::kWidth) {
    const auto zeros = S::LoadWords(weight.zeros + v);
    const auto weight_scales = S::Load(weight.scales + v);
    const uint32_t* high = products + v / kTileRows * (2 * kTileWords) + v % kTileRows;
    for (int64_t t = 0; t < block.row_end - block.row_begin; ++t) {
      const auto sum = S::JoinPlanes(S::LoadWords(high + t * kTileRows),
                                     S::LoadWords(high + kTileWords + t * kTileRows));
      float* place = sums + t * kTilePanel + v;
      S::Store(place, BlockSum<S, Packing::kInt8>(sum, zeros, weight_scales, x_sums[t], scales[t],
                                                  S::Load(place)));
    }
  }
}

/// Floats of scratch memory that LinearIntegerTiles needs beside the sums: codes, zeros and scales
/// of a block, and products.
inline constexpr int64_t kIntegerTileScratch =
    (2 * kByteTileSteps + 4) * kTileBytes / 4 + 2 * kTilePanel;

/// The block of x rows [row_begin, row_end) (row_begin a multiple of 16) with the weight's outputs
/// [n_begin, n_end). `memory`: kIntegerTileScratch floats, and one for each sum, in whole panels of
/// x and of outputs.
template <typename S>
void LinearIntegerTiles(const LinearKernelArgs& args, const LinearBlock& block, float* memory) {
  const int64_t rows = (block.row_end - block.row_begin + kTileRows - 1) / kTileRows * kTileRows;
  const int64_t panel_sums = rows * kTilePanel;
  const int64_t panels = (block.n_end - block.n_begin + kTilePanel - 1) / kTilePanel;
  CodeTiles weight{.words = reinterpret_cast<uint32_t*>(memory)};
  uint32_t* products = weight.words + 2 * kByteTileSteps * (kTileBytes / 4);
  weight.zeros = products + 4 * (kTileBytes / 4);
  weight.scales = reinterpret_cast<float*>(weight.zeros + kTilePanel);
  float* sums = memory + kIntegerTileScratch;
  for (int64_t i = 0; i < panels * panel_sums; i += S::kWidth) S::Store(sums + i, S::Zero());
  S::BeginTiles();
  for (int64_t k = 0; k < args.depth; k += kByteTileBlock) {
    weight.steps = args.depth - k > kByteTileInputs ? kByteTileSteps : 1;
    float* place = sums;
    for (int64_t n = block.n_begin; n < block.n_end; n += kTilePanel) {
      CopyCodes<S>(args, k, n, block.n_end, weight);
      for (int64_t row = block.row_begin; row < block.row_end; row += kTileRows) {
        const uint8_t* x = CodeTilesOfX(args, row, k);
        if (block.n_end - n > kTileRows) {
          MultiplyCodes<S, 2>(weight, x, products);
        } else {
          MultiplyCodes<S, 1>(weight, x, products);
        }
        const int64_t at = k / kByteTileBlock * args.packed_rows + row;
        AddCodes<S>(weight, products, args.x_scales + at, args.x_sums + at,
                    {.row_begin = row,
                     .row_end = row + kTileRows < block.row_end ? row + kTileRows : block.row_end,
                     .n_begin = n,
                     .n_end = n + kTilePanel < block.n_end ? n + kTilePanel : block.n_end},
                    place);
        place += kTileRows * kTilePanel;
      }
    }
  }
  S::EndTiles();
  for (int64_t n = block.n_begin; n < block.n_end; n += kTilePanel) {
    FinishPanel<TilePanel<S>>(
        args,
        {.row_begin = block.row_begin,
         .row_end = block.row_end,
         .n_begin = n,
         .n_end = n + kTilePanel < block.n_end ? n + kTilePanel : block.n_end},
        sums + (n - block.n_begin) / kTilePanel * panel_sums);
  }
}

}  // namespace xcomposer::cpu
