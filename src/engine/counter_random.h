#pragma once

#include <array>
#include <cstdint>

namespace xcomposer {

/// Philox 4x32 with 10 rounds (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011):
/// four random words as a pure function of counter and key. There is no state to share, so a
/// request's numbers depend on nothing but its seed and its step.
std::array<uint32_t, 4> Philox(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

/// Uniform in [0, 1) with 53 random bits.
double UniformAt(uint64_t seed, uint64_t step);

}  // namespace xcomposer
