#pragma once

#include <cstddef>

namespace xcomposer {

/// Asks the system for large pages where [memory, memory + bytes) has room for some; before anything
/// is written there, which is when pages are given. Only a wish: without it, and where the system
/// does not grant it, the memory is the same. One stream of 12-bit weights waits for the addresses of
/// pages of 4 KiB (docs/benchmarks/cpu.md).
void AskForLargePages(void* memory, size_t bytes);

}  // namespace xcomposer
