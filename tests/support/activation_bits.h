#pragma once

#include "kernels/cpu/cpu_info.h"

namespace xcomposer::cpu {

/// Whether activations have 8 bits for own weights of 8 (docs/quantisation.md), else 16.
inline bool RoundsToBytes(Isa isa) {
  return isa == Isa::kAvx2Vnni || isa == Isa::kAvx512Vnni || isa == Isa::kAvx512Bf16;
}

}  // namespace xcomposer::cpu
