#pragma once

#include "kernels/cpu/attention_tile.h"
#include "kernels/cpu/bfloat_pairs.h"
#include "kernels/cpu/isa_kernels.h"

namespace xcomposer::cpu {

/// The kernels that multiply pairs of bfloat16, instantiated for one kind of pairs P beside S.
template <typename S, typename P>
inline constexpr PairKernels kPairKernels = {
    .panels = {.few_rows = 12,  // measured
               .rows = P::kRows,
               .columns = kPanelColumns<P>,
               .scratch = kDepth* kPanelColumns<P>,
               .depth_grain = 2,
               .x_bytes = 2,
               .pack_x = &PackPairsOfX<P>,
               .multiply = &LinearPairsOfBfloats<P>},
    .attention = {&RunAttentionTile<S, KvFormat::kFloat32, P>,
                  &RunAttentionTile<S, KvFormat::kInt8, P>}};

}  // namespace xcomposer::cpu
