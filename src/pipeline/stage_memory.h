#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <string>

namespace xcomposer {

/// What a stage really holds and has needed, counted where it is allocated. Written by the stage's
/// thread, read by anybody.
struct StageMemory {
  std::atomic<int64_t> weights{0};  ///< bytes, mapped ones included
  std::atomic<int64_t> kv{0};       ///< of the pool; the system takes its pages when first used
  std::atomic<int64_t> activations{
      0};                          ///< most at any moment of a step, inputs and outputs included
  std::atomic<int64_t> vision{0};  ///< most while a picture was encoded, its features included

  std::atomic<int64_t> joins{0};        ///< pictures' rows that were put between text rows
  std::atomic<int64_t> joined_rows{0};  ///< of them
};

/// By stage of this process. Stages are added before they are used and never removed.
using StageMemoryBook = std::deque<StageMemory>;

}  // namespace xcomposer
