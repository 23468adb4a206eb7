#include "placement/planner.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <numeric>
#include <utility>

#include "base/check.h"
#include "placement/placement_search.h"
#include "placement/plan_report.h"

namespace xcomposer {
namespace {

/// GPUs alone are taken where CPUs beside them would gain no more than this.
constexpr double kWorthCpus = 1.02;
/// Machines up to which each is tried alone.
constexpr size_t kNodesAlone = 8;

template <typename Wanted>
std::vector<size_t> Those(const Cluster& cluster, const std::vector<size_t>& devices,
                          const Wanted& wanted) {
  std::vector<size_t> those;
  std::copy_if(devices.begin(), devices.end(), std::back_inserter(those),
               [&](size_t device) { return wanted(cluster.devices[device]); });
  return those;
}

/// All devices, and those of one kind or machine alone: parts are smaller there than where they
/// might lie on either kind, or scores might come from another machine.
std::vector<std::vector<size_t>> DeviceSets(const Cluster& cluster, const PlacementRules& rules) {
  std::vector<size_t> all(cluster.devices.size());
  std::iota(all.begin(), all.end(), size_t{0});
  std::vector<std::vector<size_t>> sets = {all};
  if (rules.use_all) return sets;
  const auto add = [&](std::vector<size_t> set) {
    if (!set.empty() && std::find(sets.begin(), sets.end(), set) == sets.end()) {
      sets.push_back(std::move(set));
    }
  };
  const auto add_kinds = [&](const std::vector<size_t>& of) {
    for (const char* kind : {"cuda", "cpu"}) {
      add(Those(cluster, of, [&](const ClusterDevice& device) { return device.kind == kind; }));
    }
  };
  add_kinds(all);
  for (size_t node = 0; cluster.nodes.size() <= kNodesAlone && node < cluster.nodes.size();
       ++node) {
    const std::vector<size_t> here =
        Those(cluster, all, [&](const ClusterDevice& device) { return device.node == node; });
    add(here);
    add_kinds(here);
  }
  return sets;
}

bool OnlyGpus(const Cluster& cluster, const std::vector<PlacedBlock>& blocks) {
  return std::all_of(blocks.begin(), blocks.end(), [&](const PlacedBlock& block) {
    return cluster.devices[block.device].kind == "cuda";
  });
}

/// Whether `found` is to be taken instead of `best`.
bool IsBetter(const Cluster& cluster, const FoundPlacement& found, const FoundPlacement& best) {
  if (best.blocks.empty() || found.fits != best.fits) return best.blocks.empty() || found.fits;
  if (!found.fits) return found.missing < best.missing;
  const bool gpus = OnlyGpus(cluster, found.blocks);
  const double margin = gpus == OnlyGpus(cluster, best.blocks) ? 1 - 1e-12
                        : gpus                                 ? kWorthCpus
                                                               : 1 / kWorthCpus;
  return found.seconds < best.seconds * margin;
}

FoundPlacement FindBest(const PlacementProblem& problem) {
  FoundPlacement best;
  CostTables tables(problem);
  bool certain = true;
  double bound = std::numeric_limits<double>::infinity();
  for (const std::vector<size_t>& devices : DeviceSets(problem.cluster, problem.rules)) {
    FoundPlacement found = FindPlacement(problem, devices, tables);
    bound = std::min(bound, found.bound);
    certain = certain && found.certain;
    if (IsBetter(problem.cluster, found, best)) best = std::move(found);
  }
  best.bound = bound;
  best.certain = certain;
  return best;
}

/// True where nothing is better, but for the way of the ids back to the first stage.
bool IsOptimal(const PlacementProblem& problem, const FoundPlacement& found,
               const CostTable& costs) {
  if (!found.fits) return false;
  const StepTimes times =
      StepTimesOf({problem.footprint, problem.cluster, problem.workload, costs}, found.blocks);
  return found.seconds - times.back <= found.bound * (1 + 1e-9);
}

}  // namespace

Plan DeviceMapPlanner::Plan(const ModelFootprint& footprint, const Cluster& cluster,
                            const Workload& workload, const PlacementRules& rules) {
  Require(!cluster.devices.empty(), ErrorKind::kPlan, "there is no device to plan for");
  CheckKernels(workload, cluster);
  const PlacementProblem problem{footprint, cluster, workload, rules};
  const FoundPlacement found = FindBest(problem);
  const CostTable costs = footprint.Costs(workload, StagesOf(problem, found.blocks));
  xcomposer::Plan plan = Report({footprint, cluster, workload, costs}, found.blocks);
  plan.optimal = IsOptimal(problem, found, costs);
  if (!plan.fits && !found.certain) {
    plan.notes.push_back(
        "not every order of so many devices was tried: there may be one that fits");
  }
  return plan;
}

Plan DeviceMapPlanner::Measure(const ModelFootprint& footprint, const Cluster& cluster,
                               const Workload& workload, const DeviceMap& map) {
  CheckStages(map, footprint.config());
  CheckKernels(workload, cluster);
  std::vector<PlacedBlock> blocks;
  for (const StagePlace& stage : map.stages) {
    const size_t device = DeviceNamed(cluster, stage.device);
    for (const PlacedBlock& other : blocks) {
      Require(other.device != device, ErrorKind::kPlan, "the device map has two stages on ",
              stage.device);
    }
    blocks.push_back({device, stage.first_layer + 1, stage.end_layer + 1});
  }
  blocks.front().begin = 0;
  blocks.back().end = footprint.config().layers + 2;
  const PlacementProblem problem{footprint, cluster, workload, {}};
  const CostTable costs = footprint.Costs(workload, StagesOf(problem, blocks));
  return Report({footprint, cluster, workload, costs}, blocks);
}

bool DeviceMapPlanner::Fits(const ModelFootprint& footprint, const Cluster& cluster,
                            const Workload& workload, const PlacementRules& rules) {
  CheckKernels(workload, cluster);
  const PlacementProblem problem{footprint, cluster, workload, rules};
  const std::vector<std::vector<size_t>> sets = DeviceSets(cluster, rules);
  CostTables tables(problem);
  return std::any_of(sets.begin(), sets.end(), [&](const std::vector<size_t>& devices) {
    return FitsOn(problem, devices, tables);
  });
}

DeviceMap DeviceMapOf(const Plan& plan, const Cluster& cluster) {
  DeviceMap map;
  int64_t layer = 0;
  for (const PlannedDevice& device : plan.devices) {
    const int64_t layers = std::max<int64_t>(0, device.last_layer - device.first_layer + 1);
    const std::string& id = device.device;
    map.stages.push_back(
        {cluster.nodes.size() == 1 ? id.substr(id.find('/') + 1) : id, layer, layer + layers});
    layer += layers;
  }
  return map;
}

}  // namespace xcomposer
