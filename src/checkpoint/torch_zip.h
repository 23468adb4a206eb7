#pragma once

#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

#include "checkpoint/limits.h"
#include "checkpoint/tensor_entry.h"

namespace xcomposer {

/// Reads the headers of a PyTorch zip file (`torch.save` since 1.6) holding a state dict: every
/// tensor as a view into the archive's bytes, checked to lie inside its storage. Several tensors
/// may share a storage and may be strided. Nothing is executed and no storage is touched. Throws
/// kCheckpoint naming `file` and the tensor; older files (a bare pickle), TorchScript archives and
/// big-endian ones get an error that says what to do.
std::vector<TensorEntry> ReadTorchZip(std::span<const std::byte> bytes, std::string_view file,
                                      const CheckpointLimits& limits = {});

}  // namespace xcomposer
