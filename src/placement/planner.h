#pragma once

#include <optional>
#include <string>
#include <vector>

#include "placement/cluster.h"
#include "placement/device_map.h"
#include "placement/footprint.h"
#include "placement/workload.h"
#include "xcomposer/plan.h"

namespace xcomposer {

struct PlacementRules {
  bool given_order = false;  ///< stages follow the order of the devices
  bool use_all = false;      ///< every device gets a stage
};

/// Decides which part of the model goes to which device. Everything here is a pure function of
/// what is handed in.
///
/// Search space: contiguous blocks over any subset of the devices in any order; the first block
/// begins with everything that must be on the first device, the last ends with what must be on the
/// last. A block's bytes are those of its modules and the overhead of a stage; they never exceed
/// the device's budget. Among all that fit the one with the smallest value is taken: throughput is
/// the largest step_s + hop_s, latency their sum.
class DeviceMapPlanner {
 public:
  /// The best placement; where none fits, the one that misses the fewest bytes, as shortages.
  static xcomposer::Plan Plan(const ModelFootprint& footprint, const Cluster& cluster,
                              const Workload& workload, const PlacementRules& rules = {});

  /// The same figures for a map that somebody made. Throws kPlan for a device that the cluster
  /// does not have, or one that has two stages.
  static xcomposer::Plan Measure(const ModelFootprint& footprint, const Cluster& cluster,
                                 const Workload& workload, const DeviceMap& map);

  /// Whether anything fits at all: much quicker than Plan.
  static bool Fits(const ModelFootprint& footprint, const Cluster& cluster,
                   const Workload& workload, const PlacementRules& rules = {});
};

/// The stages of a plan as the pipeline takes them. Devices of a single node are named without it.
DeviceMap DeviceMapOf(const xcomposer::Plan& plan, const Cluster& cluster);

}  // namespace xcomposer
