#pragma once

#include "kernels/cpu/attention_tile.h"
#include "kernels/cpu/bfloat_pairs.h"
#include "kernels/cpu/isa_kernels.h"
#include "kernels/cpu/linear_packed.h"

namespace xcomposer::cpu {

/// Measured: above how many rows packing pairs pays.
inline constexpr int64_t kFewPairRows = 12;

template <typename P, typename Weight>
inline constexpr PanelKernel kPairPanels = {.few_rows = kFewPairRows,
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
    .dense = kPairPanels<P, DenseWeight<P, Format::kFloat32>>,
    .packed = {kPairPanels<P, PackedWeight<P, Packing::kGptq4>>,
               kPairPanels<P, PackedWeight<P, Packing::kGptq8>>,
               kPairPanels<P, PackedWeight<P, Packing::kAwq4>>},
    .attention = {&RunAttentionTile<S, KvFormat::kFloat32, P>,
                  &RunAttentionTile<S, KvFormat::kInt8, P>}};

}  // namespace xcomposer::cpu
