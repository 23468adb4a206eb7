#pragma once

#include <cstddef>
#include <optional>
#include <vector>

#include "placement/block_search.h"

/// What can be said of a block problem without solving it.
namespace xcomposer {

/// Whether any cut fits, without looking for the best one; in linear time per set of devices.
bool CanCover(const BlockProblem& problem);

/// The classes of a cut that fits, one after the other; nothing where no cut over any subset in any
/// order does. `use_all` is not looked at.
std::optional<std::vector<size_t>> CoveringClasses(const BlockProblem& problem);

/// True where the two above are quick: up to 17 devices of which no two are alike.
bool IsQuickToCover(const BlockProblem& problem);

bool CanCoverInOrder(const BlockProblem& problem);

/// No cut over any subset in any order has a smaller value.
double LowerBound(const BlockProblem& problem);

}  // namespace xcomposer
