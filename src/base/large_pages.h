#pragma once

#include <cstddef>

namespace xcomposer {

/// Asks the system for large pages where [memory, memory + bytes) has room for some: before anything
/// is written there, or read there of a mapped file, which is when pages are given. Only a wish:
/// without it, and where the system does not grant it, the memory is the same. Weights are streamed
/// faster out of large pages (docs/benchmarks/cpu.md).
void AskForLargePages(void* memory, size_t bytes);

}  // namespace xcomposer
