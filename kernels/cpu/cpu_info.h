#pragma once

namespace xcomposer::cpu {

/// The instruction sets that our kernels are written for, from the most portable to the widest.
enum class Isa { kPortable, kAvx2, kAvx512, kAvx512Vnni, kAmx };

/// The widest of them that this processor and operating system offer. The first call asks them, and
/// Linux for the leave to use tiles, which holds for all threads.
Isa BestIsa();

/// "portable", "avx2" (with FMA and F16C), "avx512" (F, BW, VL, DQ), "avx512vnni" or
/// "amx" (tiles of int8 and bfloat16, besides avx512vnni).
const char* ToString(Isa isa);

}  // namespace xcomposer::cpu
