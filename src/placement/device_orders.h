#pragma once

#include <cstddef>
#include <vector>

#include "placement/cluster.h"

namespace xcomposer {

/// Orders of these devices that are worth trying where not all of them can be: the fastest first,
/// the largest first, as given; node by node and device by device; each also backwards. `most`: as
/// many of each as are used.
std::vector<std::vector<size_t>> OrdersToTry(const Cluster& cluster,
                                             const std::vector<size_t>& devices, size_t most);

/// Devices grouped where they are alike: of one node, with the same budget and speed.
std::vector<std::vector<size_t>> AlikeDevices(const Cluster& cluster,
                                              const std::vector<size_t>& devices);

}  // namespace xcomposer
