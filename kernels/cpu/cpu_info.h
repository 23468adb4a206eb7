#pragma once

namespace xcomposer::cpu {

/// The instruction sets that our kernels are written for, from the most portable to the widest.
enum class Isa { kPortable, kAvx2, kAvx512, kAvx512Vnni };

/// The widest of them that this processor and operating system offer.
Isa BestIsa();

/// "portable", "avx2" (with FMA and F16C), "avx512" (F, BW, VL, DQ) or "avx512vnni".
const char* ToString(Isa isa);

}  // namespace xcomposer::cpu
