#include "kernels/cpu/amx_table.h"
#include "kernels/cpu/simd_amx.h"

namespace xcomposer::cpu {

extern const TileKernels kAmxTiles;
const TileKernels kAmxTiles = kTileKernels<Amx>;

}  // namespace xcomposer::cpu
