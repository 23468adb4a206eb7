#pragma once

#include <cstdint>

#include "kernels/cpu/cpu_info.h"

namespace xcomposer::cpu {

/// Numbers that float16 has no room for.
struct HalfLosses {
  int64_t overflows = 0;   ///< finite before, infinite after
  int64_t underflows = 0;  ///< not zero before, zero after
};

/// out (count) = the bfloat16 numbers `in` as float16, rounded to the nearest, ties to even.
/// Adds to `losses`. On the calling thread; `isa`: one that this processor has.
void HalvesOfBfloat16(const uint16_t* in, uint16_t* out, int64_t count, HalfLosses& losses,
                      Isa isa);

}  // namespace xcomposer::cpu
