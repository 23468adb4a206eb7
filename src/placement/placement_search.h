#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <tuple>
#include <vector>

#include "placement/plan_report.h"
#include "placement/planner.h"

namespace xcomposer {

/// What is to be placed, and on what. The parts must live as long as it does.
struct PlacementProblem {
  const ModelFootprint& footprint;
  const Cluster& cluster;
  const Workload& workload;
  PlacementRules rules;
};

/// The cost tables of a problem, made when they are first asked for: a search needs few of them and
/// each of them often.
class CostTables {
 public:
  explicit CostTables(const PlacementProblem& problem) : problem_(problem) {}

  const CostTable& Of(const StageSet& set);

 private:
  /// Sequences of a step, bytes of waiting rows, kinds, machines.
  using Key = std::tuple<int64_t, int64_t, bool, bool, bool>;

  const PlacementProblem& problem_;
  std::map<Key, CostTable> tables_;
};

/// A placement, and what is known of all others on the same devices.
struct FoundPlacement {
  std::vector<PlacedBlock> blocks;
  bool fits = false;
  /// Where it fits: for latency the objective's value, for throughput the time in which every
  /// sequence gets one token.
  double seconds = 0;
  double bound = 0;     ///< no other one that fits takes less
  int64_t missing = 0;  ///< bytes over the budgets
  bool certain = true;  ///< that none fits, where none was found
};

/// The stages of a placement by themselves.
StageSet StagesOf(const PlacementProblem& problem, const std::vector<PlacedBlock>& blocks);

/// The best placement on some of these devices; where none fits, the one that misses the fewest
/// bytes.
FoundPlacement FindPlacement(const PlacementProblem& problem, const std::vector<size_t>& devices,
                             CostTables& tables);

/// Whether any placement on some of these devices fits.
bool FitsOn(const PlacementProblem& problem, const std::vector<size_t>& devices,
            CostTables& tables);

}  // namespace xcomposer
