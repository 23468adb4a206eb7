#pragma once

#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/limits.h"
#include "checkpoint/tensor_entry.h"

namespace xcomposer {

/// What the header of a safetensors file says.
struct SafetensorsHeader {
  std::vector<TensorEntry> tensors;  ///< by offset; `offset` counts from the file's start
  std::map<std::string, std::string> metadata;  ///< "__metadata__"
};

/// Reads the header of the safetensors file whose bytes are `bytes`; no byte behind the header is
/// touched. Throws kCheckpoint naming `file` and the tensor where the length prefix, the JSON or an
/// entry is wrong, where tensors overlap or leave holes, or where the file is longer or shorter
/// than its tensors.
SafetensorsHeader ParseSafetensors(std::span<const std::byte> bytes, std::string_view file,
                                   const CheckpointLimits& limits = {});

}  // namespace xcomposer
