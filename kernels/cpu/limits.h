#pragma once

#include <cstdint>

/// Loops that do nothing but what limits a kernel, with the widest vectors that this processor has:
/// their rates are the ceilings that kernels are compared with. A ceiling is only one while no
/// kernel is faster.
namespace xcomposer::cpu {

/// Fused multiply-adds on registers only (products and sums where there are none; with AMX,
/// products of bfloat16, three of which are one of float32); returns something that depends on all
/// of them.
float RunFmas(int64_t rounds);
/// Products and sums (two per fused multiply-add) of one round of RunFmas.
double FlopsPerRound();

/// 8-bit products summed in 32 bits, on registers only: tdpbsud or vpdpbusd where the processor has
/// them, else vpmaddubsw, vpmaddwd and a sum. Elsewhere as RunFmas.
float RunIntegerDots(int64_t rounds);
/// Products and sums of one round of RunIntegerDots: two per 8-bit product.
double OpsPerIntegerRound();
/// "tdpbsud", "vpdpbusd", "vpmaddubsw", or "" where the processor has no instruction for it.
const char* IntegerDotName();

/// Products of bfloat16 summed in float32, on registers only: tdpbf16ps or vdpbf16ps where the
/// processor has them. Elsewhere as RunFmas.
float RunBfloatDots(int64_t rounds);
/// Products and sums of one round of RunBfloatDots: two per product.
double OpsPerBfloatRound();
/// "tdpbf16ps", "vdpbf16ps", or "" where the processor has no instruction for it.
const char* BfloatDotName();

inline constexpr int kReadStreams[] = {1, 2, 4, 8};

/// Reads the lines of the memory in `streams` (of kReadStreams) equal runs side by side, with
/// prefetching, as the streamed kernels do; what is left of it, at most a line for each run, is not
/// read. The sum of the first 8 bytes of each line.
uint64_t ReadAll(const char* memory, int64_t bytes, int streams = 4);

}  // namespace xcomposer::cpu
