#pragma once

#include <cstdint>

namespace xcomposer::cpu {

/// Fused multiply-adds on registers only, `rounds` times kFmasPerRound of the widest vectors there
/// are; returns something that depends on all of them.
float RunFmas(int64_t rounds);
/// Products and sums (two per fused multiply-add) of one round of RunFmas, on this processor.
double FlopsPerRound();

/// Reads every line of the memory in four streams with prefetching, as the streamed kernel does.
uint64_t ReadAll(const char* memory, int64_t bytes);

}  // namespace xcomposer::cpu
