#include "kernels/cpu/half_cast.h"

#include "kernels/cpu/isa_kernels.h"

namespace xcomposer::cpu {

void HalvesOfBfloat16(const uint16_t* in, uint16_t* out, int64_t count, HalfLosses& losses,
                      Isa isa) {
  KernelsFor(isa).halves_of_bfloat16(in, out, count, losses);
}

}  // namespace xcomposer::cpu
