#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/dtype.h"
#include "checkpoint/limits.h"

namespace xcomposer {

/// A tensor as a pickle describes it: a view into a storage that lies elsewhere in the archive.
struct PickledTensor {
  std::string name = {};
  DType dtype = DType::kF32;
  std::string storage;           ///< the storage's key: the archive member "data/<key>"
  int64_t storage_elements = 0;  ///< elements of the whole storage
  int64_t offset = 0;            ///< elements from the storage's start
  std::vector<int64_t> shape = {};
  std::vector<int64_t> strides = {};  ///< in elements
};

/// Reads a state dict (a plain or ordered dict of tensors) from pickle bytes of protocol 2 without
/// executing anything: the opcodes that torch.save emits for tensors, and a fixed list of globals
/// (collections.OrderedDict, torch._utils._rebuild_tensor_v2 and _rebuild_parameter, the typed
/// storage classes) that are recognised, never called. Time and memory are linear in the input and
/// bounded by `limits`. Sizes and strides are those of the pickle, not yet compared with any
/// storage. Throws kCheckpoint naming `file`, the byte and, where one is at hand, the tensor.
std::vector<PickledTensor> ReadPickledStateDict(std::span<const std::byte> bytes,
                                                std::string_view file,
                                                const CheckpointLimits& limits = {});

}  // namespace xcomposer
