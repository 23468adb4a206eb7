#pragma once

#include "placement/block_search.h"

/// What can be said of a block problem without solving it.
namespace xcomposer {

/// True where CanCover and Cover are quick: for many more devices than the search for the best cut.
bool IsCoverable(const BlockProblem& problem);

/// Whether any cut fits, without looking for the best one; in linear time per set of devices.
bool CanCover(const BlockProblem& problem);

/// A cut that fits, without `in_order` and `use_all`; empty where there is none.
std::vector<Block> Cover(const BlockProblem& problem);

/// No cut over any subset in any order has a smaller value.
double LowerBound(const BlockProblem& problem);

}  // namespace xcomposer
