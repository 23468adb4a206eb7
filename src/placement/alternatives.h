#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "placement/planner.h"

namespace xcomposer {

/// A planning question with what may be changed about it.
struct PlanQuestion {
  const ModelFootprint* footprint = nullptr;  ///< must live longer
  Cluster cluster;
  /// The cluster as it may be a moment later, with no larger budgets: alternatives fit there too.
  /// Absent where budgets stay what they are.
  std::optional<Cluster> later;
  Workload workload;
  PlacementRules rules;

  /// The picture of a request with so many, under a limit of tiles. Must be set.
  std::function<PictureShape(int64_t images, int64_t hd_num)> picture;
  /// Extra devices that were asked for already.
  int64_t extra_devices = 0;
  bool hand_made_map = false;  ///< what does not fit is a given map
  bool can_pack = true;        ///< bf12 may be asked for
  bool can_quantise = true;    ///< int8 and int4 may be asked for
  bool fixed_order = false;    ///< no argument of the command changes the order of the devices
  /// Arguments that every alternative begins with: what the question leaves open for the command.
  std::vector<std::string> pinned;
};

/// The cluster with its largest device `count` times more, on the same node.
Cluster WithExtraDevices(const Cluster& cluster, int64_t count);

/// Changes that make it fit, each of them planned: another order and bf12, by which nothing is
/// lost; shorter context, fewer sequences, fewer tiles, fewer pictures, smaller prefill steps, keys
/// and values in int8 (CPUs), smaller weights, one more device; two or more at once where no single
/// one is enough. Empty only where nothing helps.
std::vector<PlanAlternative> FindAlternatives(const PlanQuestion& question);

}  // namespace xcomposer
