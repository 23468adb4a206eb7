#pragma once

#include "kernels/cpu/attention_tile.h"
#include "kernels/cpu/bf12_rows.h"
#include "kernels/cpu/bfloat_pairs.h"
#include "kernels/cpu/isa_kernels.h"
#include "kernels/cpu/linear_packed.h"

namespace xcomposer::cpu {

/// `few_rows` are measured.
template <typename P, typename Weight, int64_t few_rows>
inline constexpr PanelKernel kPairPanels = {.few_rows = few_rows,
                                            .rows = P::kRows,
                                            .columns = kPanelColumns<P>,
                                            .scratch = kDepth* kPanelColumns<P>,
                                            .depth_grain = 2,
                                            .x_bytes = 2,
                                            .pack_x = &PackPairsOfX<P>,
                                            .multiply = &LinearPairs<P, Weight>};

/// The kernels that multiply pairs of bfloat16, instantiated for one kind of pairs P beside S.
template <typename S, typename P>
inline constexpr PairKernels kPairKernels = {
    .dense = kPairPanels<P, DenseWeight<P, Format::kFloat32>, 12>,
    .bf12 = kPairPanels<P, Bf12Weight<P, DenseWeight<P, Format::kFloat32>, 2>, 12>,
    .packed = {kPairPanels<P, PackedWeight<P, Packing::kGptq4>, 8>,
               kPairPanels<P, PackedWeight<P, Packing::kGptq8>, 12>,
               kPairPanels<P, PackedWeight<P, Packing::kAwq4>, 12>},
    .attention = {&RunAttentionTiles<S, KvFormat::kFloat32, P>,
                  &RunAttentionTiles<S, KvFormat::kInt8, P>}};

}  // namespace xcomposer::cpu
