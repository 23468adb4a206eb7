#include "kernels/cpu/amx_table.h"
#include "kernels/cpu/simd_amx.h"

namespace xcomposer::cpu {

extern const SpecialKernels kAmxTiles;
const SpecialKernels kAmxTiles = kTileKernels<Amx>;
/// x rounded to bfloat16.
extern const SpecialKernels kAmxRoundingTiles;
const SpecialKernels kAmxRoundingTiles = kTileKernels<Amx, 1>;

}  // namespace xcomposer::cpu
