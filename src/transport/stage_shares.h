#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "transport/transport.h"

namespace xcomposer {

/// What rank 0 gives a stage when it places a run: layers up to `end_layer`, from where the stage
/// before it ends, and memory.
struct StageShare {
  int64_t end_layer = 0;
  int64_t budget = 0;  ///< bytes of the stage's device

  bool operator==(const StageShare&) const = default;
};

Payload EncodeShares(const std::vector<StageShare>& shares);

/// Bytes from outside. Throws kTransport unless they are exactly the shares of `stages` stages, in
/// order, none of them less than nothing. How many layers there are is the model's to check.
std::vector<StageShare> DecodeShares(std::span<const std::byte> bytes, size_t stages);

}  // namespace xcomposer
