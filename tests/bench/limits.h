#pragma once

#include <cstdint>

namespace xcomposer::cpu {

/// Fused multiply-adds on registers only, `rounds` times as many of the widest vectors there are
/// as the registers hold; returns something that depends on all of them.
float RunFmas(int64_t rounds);
/// Products and sums (two per fused multiply-add) of one round of RunFmas, on this processor.
double FlopsPerRound();

/// Products of small integers summed in 32 bits, on registers only: vpdpbusd where the processor
/// has it, else vpmaddubsw, vpmaddwd and a sum. Otherwise as RunFmas.
float RunIntegerDots(int64_t rounds);
/// Products and sums of one round of RunIntegerDots, on this processor.
double OpsPerIntegerRound();

/// Reads every line of the memory in four streams with prefetching, as the streamed kernel does.
uint64_t ReadAll(const char* memory, int64_t bytes);

}  // namespace xcomposer::cpu
