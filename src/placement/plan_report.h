#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "placement/cluster.h"
#include "placement/footprint.h"
#include "placement/workload.h"
#include "xcomposer/plan.h"

namespace xcomposer {

/// Modules [begin, end) of a cost table that are never separated: all that belongs to the first
/// stage, then layer by layer, then all that belongs to the last.
struct UnitRange {
  size_t begin = 0;
  size_t end = 0;
};
std::vector<UnitRange> UnitsOf(const CostTable& costs);

/// Units [begin, end) on a device.
struct PlacedBlock {
  size_t device = 0;
  int64_t begin = 0;
  int64_t end = 0;
};

struct PlanInput {
  const ModelFootprint& footprint;
  const Cluster& cluster;
  const Workload& workload;
  const CostTable& costs;
};

/// The figures of one stage, but for its hand-over.
PlannedDevice StageOf(const PlanInput& input, const PlacedBlock& block);

/// All figures of a placement. `fits` says whether every device keeps within its budget; those that
/// do not become shortages. `optimal` is the caller's to set.
Plan Report(const PlanInput& input, const std::vector<PlacedBlock>& blocks);

/// The device called "node/name", "node:name" or, in a cluster of one node, "name". Throws kDevice.
size_t DeviceNamed(const Cluster& cluster, const std::string& name);

}  // namespace xcomposer
