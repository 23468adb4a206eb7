#pragma once

#include "kernels/cpu/amx_integers.h"
#include "kernels/cpu/amx_panels.h"
#include "kernels/cpu/isa_kernels.h"

namespace xcomposer::cpu {

/// A guess: no such processor has been measured.
inline constexpr int64_t kFewTileRows = 16;

template <typename S, int kParts, typename Weight>
inline constexpr PanelKernel kTilePanels = {.few_rows = kFewTileRows,
                                            .rows = kTilePanel,
                                            .columns = kTilePanel,
                                            .scratch = kTileScratch,
                                            .least_depth = kLeastTileDepth,
                                            .x_bytes = 2 * kParts,
                                            .pack_x = &PackTilesOfX<S, kParts>,
                                            .multiply = &LinearTiles<S, kParts, Weight>};

/// The kernels that work by tiles, instantiated for one kind of tiles and for x as a sum of so many
/// bfloat16.
template <typename S, int kParts = kAllParts>
inline constexpr SpecialKernels kTileKernels = {
    .bfloat16 = kTilePanels<S, kParts, DenseTiles<S>>,
    .bf12 = kTilePanels<S, kParts, Bf12Tiles<S>>,
    .int8 = {.few_rows = kFewTileRows,
             .rows = kTileRows,
             .columns = kTilePanel,
             .scratch = kIntegerTileScratch,
             .x = {.block = kByteTileBlock,
                   .most = IntegerCodes<S, Packing::kInt8>::kMost,
                   .dword_codes = 2,
                   .round = &RoundTilesOfX<S>},
             .multiply = &LinearIntegerTiles<S>}};

}  // namespace xcomposer::cpu
