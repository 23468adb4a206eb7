#pragma once

namespace xcomposer::cpu {

/// The instruction sets that our kernels are written for, from the most portable to the widest.
enum class Isa { kPortable, kAvx2, kAvx512 };

/// The widest of them that this processor and operating system offer.
Isa BestIsa();

/// "portable", "avx2" (with FMA and F16C) or "avx512" (F, BW, VL, DQ).
const char* ToString(Isa isa);

}  // namespace xcomposer::cpu
