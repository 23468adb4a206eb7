#pragma once

#include <string>
#include <vector>

#include "placement/cluster.h"
#include "placement/memory_formula.h"

namespace xcomposer::api {

/// This machine as a cluster of one node: the named devices, or all of them. A CPU that is named
/// several times ("cpu,cpu") becomes as many devices, cpu, cpu:1 and so on, which share its memory
/// evenly. Throws kDevice for a name that is none or a device that is not there.
Cluster MachineCluster(const std::vector<std::string>& names);

/// How this machine's CPU kernels use memory; `threads` 0: as many as this process may use.
ComputeTraits HostTraits(int threads);

}  // namespace xcomposer::api
