#pragma once

#include "placement/block_search.h"

/// What can be said of a block problem without solving it.
namespace xcomposer {

/// Whether any cut fits, without looking for the best one; in linear time per set of devices.
bool CanCover(const BlockProblem& problem);
bool CanCoverInOrder(const BlockProblem& problem);

/// No cut over any subset in any order has a smaller value.
double LowerBound(const BlockProblem& problem);

}  // namespace xcomposer
