#pragma once

#include <optional>
#include <string_view>

#include "checkpoint/dtype.h"

namespace xcomposer {

/// The globals that a pickle of weights may name. Nothing is ever looked up or called: each stands
/// for an action that the reader knows.
enum class PickleGlobal { kOrderedDict, kRebuildTensor, kRebuildParameter, kStorage };

struct KnownGlobal {
  PickleGlobal global;
  DType dtype = DType::kF32;  ///< of a storage class
};

/// The allow-list: what `module` and `name` stand for, or nothing.
std::optional<KnownGlobal> FindPickleGlobal(std::string_view module, std::string_view name);

}  // namespace xcomposer
