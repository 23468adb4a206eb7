#pragma once

#include <vector>

#include "api/rank_run.h"
#include "placement/cluster.h"

namespace xcomposer::api {

/// What rank `rank` has of the devices of the run, which must be of this machine: a cluster of one
/// node, called after the machine. Throws kDevice, kPlan.
Cluster OwnDevices(const std::vector<RankedDevice>& devices, int rank);

/// The devices of all ranks, in their order, as one cluster: a node per rank, called "0", "1", ...
/// `ranks` are what OwnDevices gave on each. What ranks of one machine share, its memory or a GPU,
/// is divided between them. Throws kTransport, naming the rank, where its devices are not those of
/// the run.
Cluster ClusterOfRun(const std::vector<RankedDevice>& devices, const std::vector<Cluster>& ranks);

}  // namespace xcomposer::api
