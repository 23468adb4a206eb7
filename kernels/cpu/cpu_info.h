#pragma once

#include <cstdint>
#include <string>

namespace xcomposer::cpu {

/// The instruction sets that our kernels are written for, from the most portable to the widest. A
/// processor has all before one that it has, but for kAvx2Vnni.
enum class Isa { kPortable, kAvx2, kAvx2Vnni, kAvx512, kAvx512Vnni, kAvx512Bf16, kAmx };
inline constexpr Isa kAllIsas[] = {Isa::kPortable,   Isa::kAvx2,       Isa::kAvx2Vnni, Isa::kAvx512,
                                   Isa::kAvx512Vnni, Isa::kAvx512Bf16, Isa::kAmx};

/// Names in the environment the widest instruction set to use, as ToString does.
inline constexpr char kMaxIsaVariable[] = "XCOMPOSER_MAX_ISA";

/// The widest of them that this processor and operating system offer, and that kMaxIsaVariable
/// allows where it names one. The first call asks them, and Linux for the leave to use tiles, which
/// holds for all threads.
Isa BestIsa();

/// Whether kernels for it may run: the processor has it, and it is not wider than BestIsa().
bool MayRun(Isa isa);

/// What is wrong with kMaxIsaVariable; empty where nothing is.
std::string MaxIsaProblem();

/// Whether it has products of bfloat16.
inline bool HasBfloatProducts(Isa isa) { return isa >= Isa::kAvx512Bf16; }

/// "portable", "avx2" (with FMA and F16C), "avx2vnni" (AVX-VNNI), "avx512" (F, BW, VL, DQ),
/// "avx512vnni", "avx512bf16" (besides avx512vnni) or "amx" (tiles of int8 and bfloat16, besides
/// avx512bf16).
const char* ToString(Isa isa);

/// Bytes of a core's first cache for data; 32 KiB where the system does not say.
int64_t FirstCacheBytes();

/// Whether a core fetches one long stream faster than several side by side, while it multiplies
/// what arrives with a few rows. Measured: AMD's do (Zen 5), Intel's do not (Cascade Lake).
bool FetchesOneStreamFaster();

}  // namespace xcomposer::cpu
