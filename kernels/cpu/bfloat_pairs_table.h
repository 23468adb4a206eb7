#pragma once

#include "kernels/cpu/bfloat_pairs.h"
#include "kernels/cpu/isa_kernels.h"

namespace xcomposer::cpu {

template <typename S>
inline constexpr PanelKernel kBfloatPairs = {.few_rows = 12,  // measured
                                             .rows = S::kRows,
                                             .columns = kPanelColumns<S>,
                                             .scratch = kDepth* kPanelColumns<S>,
                                             .depth_grain = 2,
                                             .x_bytes = 2,
                                             .pack_x = &PackPairsOfX<S>,
                                             .multiply = &LinearPairsOfBfloats<S>};

}  // namespace xcomposer::cpu
