#pragma once

#include <string>

#include "placement/cluster.h"

namespace xcomposer {

/// Reads a description of machines (docs/placement.md shows the form). What is left out is assumed
/// and noted; keys that are not known are ignored and noted. Throws kPlan for text that is no such
/// description: no device, a name twice, a link to a node that is not there, sizes that are none.
Cluster ParseCluster(const std::string& text);

/// The same form, sizes as plain numbers.
std::string ToJson(const Cluster& cluster);

/// Lowers budgets to what a Hugging Face `max_memory` allows: {"0": "20GiB", "cpu": "30GB",
/// "a/cuda:1": 10000000000}. Devices that it does not name keep theirs. Throws kPlan for text that
/// is no such map or names a device that is not there.
void ApplyMaxMemory(const std::string& text, Cluster& cluster);

}  // namespace xcomposer
