#pragma once

#include <cstddef>
#include <functional>
#include <span>

#include "checkpoint/tensor_entry.h"

namespace xcomposer {

/// Receives consecutive bytes; the span is valid during the call only.
using ByteSink = std::function<void(std::span<const std::byte>)>;

/// Hands the elements of `entry` to `sink` in row-major order, in pieces of a few MB. `bytes` are
/// those of Checkpoint::Bytes(entry). A contiguous tensor is handed on as it lies; a strided one is
/// gathered. Where bytes are to be written elsewhere whole, this bounds the memory needed.
void ForEachDenseChunk(const TensorEntry& entry, std::span<const std::byte> bytes,
                       const ByteSink& sink);

}  // namespace xcomposer
