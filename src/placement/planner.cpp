#include "placement/planner.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>
#include <string>
#include <tuple>
#include <utility>

#include "base/check.h"
#include "config/weight_names.h"
#include "placement/block_bounds.h"
#include "placement/block_search.h"
#include "placement/device_map_json.h"
#include "placement/plan_report.h"

namespace xcomposer {
namespace {

/// Orders that are tried where not all of them can be look at this many devices.
constexpr size_t kTriedDevices = 48;

/// The problem, and which devices each of its classes stands for.
struct Reduced {
  BlockProblem problem;
  std::vector<std::vector<size_t>> members;
  bool in_order = false;    // classes of one device each, to be used one after the other
  bool every_order = true;  // that was asked for is looked at
};

std::vector<int64_t> UnitBytes(const CostTable& costs) {
  std::vector<int64_t> sums = {0};
  for (const UnitRange& unit : UnitsOf(costs)) {
    int64_t bytes = 0;
    for (size_t m = unit.begin; m < unit.end; ++m) bytes += costs.modules[m].bytes();
    sums.push_back(sums.back() + bytes);
  }
  return sums;
}

BlockClass ClassOf(const CostTable& costs, const ClusterDevice& device) {
  BlockClass result;
  result.budget = device.budget - costs.OverheadOn(device.kind).bytes();
  result.seconds = {0};
  for (const UnitRange& unit : UnitsOf(costs)) {
    double seconds = 0;
    for (size_t m = unit.begin; m < unit.end; ++m) {
      seconds += costs.Seconds(costs.modules[m], device);
    }
    result.seconds.push_back(result.seconds.back() + seconds);
  }
  return result;
}

/// Devices are grouped where they are alike: of one node, with the same budget and speed.
std::vector<std::vector<size_t>> Alike(const Cluster& cluster) {
  using Key = std::tuple<size_t, std::string, int64_t, double, double>;
  std::map<Key, size_t> known;
  std::vector<std::vector<size_t>> groups;
  for (size_t i = 0; i < cluster.devices.size(); ++i) {
    const ClusterDevice& device = cluster.devices[i];
    const auto [it, fresh] = known.try_emplace(
        Key{device.node, device.kind, device.budget, device.bandwidth, device.flops},
        groups.size());
    if (fresh) groups.emplace_back();
    groups[it->second].push_back(i);
  }
  return groups;
}

Reduced Reduce(const CostTable& costs, const Cluster& cluster, BlockGoal goal,
               std::vector<std::vector<size_t>> members) {
  Reduced reduced;
  reduced.problem.bytes = UnitBytes(costs);
  reduced.problem.goal = goal;
  reduced.members = std::move(members);
  const size_t classes = reduced.members.size();
  reduced.problem.hops.assign(classes, std::vector<double>(classes));
  for (size_t c = 0; c < classes; ++c) {
    const size_t device = reduced.members[c].front();
    reduced.problem.classes.push_back(ClassOf(costs, cluster.devices[device]));
    reduced.problem.classes.back().count = static_cast<int64_t>(reduced.members[c].size());
    for (size_t d = 0; d < classes; ++d) {
      reduced.problem.hops[c][d] =
          costs.Seconds(cluster.LinkBetween(device, reduced.members[d].front()));
    }
  }
  return reduced;
}

std::vector<std::vector<size_t>> OneByOne(const std::vector<size_t>& devices) {
  std::vector<std::vector<size_t>> members;
  for (const size_t device : devices) members.push_back({device});
  return members;
}

std::vector<PlacedBlock> Placed(const Reduced& reduced, const BlockAnswer& answer) {
  std::vector<size_t> used(reduced.members.size(), 0);
  std::vector<PlacedBlock> blocks;
  for (const Block& block : answer.blocks) {
    const size_t device = reduced.members[block.device_class][used[block.device_class]++];
    blocks.push_back({device, block.begin, block.end});
  }
  return blocks;
}

/// Orders worth trying for many devices: the fastest first, the largest first, as given; node by
/// node and device by device; each of them as far as a model has use for.
std::vector<std::vector<size_t>> OrdersToTry(const Cluster& cluster) {
  std::vector<size_t> useful;
  for (size_t i = 0; i < cluster.devices.size(); ++i) useful.push_back(i);
  std::vector<double> node_speed(cluster.nodes.size());
  std::vector<double> node_budget(cluster.nodes.size());
  for (const ClusterDevice& device : cluster.devices) {
    node_speed[device.node] = std::max(node_speed[device.node], device.bandwidth);
    node_budget[device.node] += static_cast<double>(device.budget);
  }
  const auto speed = [&](size_t i) { return cluster.devices[i].bandwidth; };
  const auto budget = [&](size_t i) { return static_cast<double>(cluster.devices[i].budget); };
  const auto sorted = [&](const auto& key) {
    std::vector<size_t> order = useful;
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return key(a) > key(b); });
    order.resize(std::min(order.size(), kTriedDevices));
    return order;
  };
  const auto node = [&](size_t i) { return -static_cast<double>(cluster.devices[i].node); };
  std::vector<std::vector<size_t>> orders = {
      sorted([&](size_t i) { return std::tuple(0.0, 0.0, node(i)); }),
      sorted([&](size_t i) { return std::tuple(speed(i), budget(i), node(i)); }),
      sorted([&](size_t i) { return std::tuple(budget(i), speed(i), node(i)); }),
      sorted([&](size_t i) {
        return std::tuple(node_speed[cluster.devices[i].node], node(i), speed(i));
      }),
      sorted([&](size_t i) {
        return std::tuple(node_budget[cluster.devices[i].node], node(i), budget(i));
      })};
  for (size_t i = 0, count = orders.size(); i < count; ++i) {
    orders.emplace_back(orders[i].rbegin(), orders[i].rend());
  }
  return orders;
}

struct Found {
  std::vector<PlacedBlock> blocks;
  bool fits = false;
  bool optimal = false;
};

Found SearchAll(const Reduced& all) {
  if (const auto best = BestBlocks(all.problem)) return {Placed(all, *best), true, true};
  return {Placed(all, LeastMissing(all.problem)), false, true};
}

Found SearchOrder(const Reduced& ordered) {
  if (const auto best = BestBlocksInOrder(ordered.problem)) {
    return {Placed(ordered, *best), true, ordered.every_order};
  }
  return {Placed(ordered, LeastMissingInOrder(ordered.problem)), false, false};
}

/// Orders are tried one by one, and the best is kept.
class OrderSearch {
 public:
  OrderSearch(const CostTable& costs, const Cluster& cluster, BlockGoal goal)
      : costs_(costs), cluster_(cluster), goal_(goal) {}

  /// True where it is better than all before it.
  bool Try(const std::vector<size_t>& order) {
    const Reduced ordered = Reduce(costs_, cluster_, goal_, OneByOne(order));
    if (auto best = BestBlocksInOrder(ordered.problem)) {
      return Keep(order, ordered, *best, {0, best->value});
    }
    const BlockAnswer least = LeastMissingInOrder(ordered.problem);
    return Keep(order, ordered, least, {least.missing, 0});
  }

  /// Moves one device after the other to another place, until none helps or it takes too long.
  void Improve() {
    const size_t count = order_.size();
    const auto devices = static_cast<double>(count);
    const auto units = static_cast<double>(UnitsOf(costs_).size());
    auto tries = static_cast<int64_t>(kImproveSteps / (devices * devices * units * units));
    for (bool better = true; better;) {
      better = false;
      for (size_t from = 0; from < count; ++from) {
        for (size_t to = 0; to < count; ++to) {
          if (from == to) continue;
          if (--tries < 0) return;
          std::vector<size_t> moved = order_;
          const size_t device = moved[from];
          moved.erase(moved.begin() + static_cast<std::ptrdiff_t>(from));
          moved.insert(moved.begin() + static_cast<std::ptrdiff_t>(to), device);
          better = Try(moved) || better;
        }
      }
    }
  }

  const Found& found() const { return found_; }
  double value() const { return score_.second; }

 private:
  static constexpr double kImproveSteps = 1e8;  // of the search in an order: under half a second

  using Score = std::pair<int64_t, double>;  // missing bytes, then the value

  bool Keep(const std::vector<size_t>& order, const Reduced& ordered, const BlockAnswer& answer,
            const Score& score) {
    // Rounding must not let two orders take turns.
    const bool better = found_.blocks.empty() || score.first < score_.first ||
                        (score.first == score_.first && score.second < score_.second * (1 - 1e-9));
    if (!better) return false;
    order_ = order;
    score_ = score;
    found_ = {Placed(ordered, answer), score.first == 0, false};
    return true;
  }

  const CostTable& costs_;
  const Cluster& cluster_;
  BlockGoal goal_;
  std::vector<size_t> order_;
  Score score_;
  Found found_;
};

/// The devices of these classes in order, then others, as many as are worth trying.
std::vector<size_t> OrderOf(const Reduced& all, const std::vector<size_t>& classes) {
  std::vector<size_t> used(all.members.size(), 0);
  std::vector<size_t> order;
  for (const size_t c : classes) order.push_back(all.members[c][used[c]++]);
  for (size_t c = 0; c < used.size(); ++c) {
    order.insert(order.end(), all.members[c].begin() + static_cast<std::ptrdiff_t>(used[c]),
                 all.members[c].end());
  }
  order.resize(std::min(order.size(), std::max(classes.size(), kTriedDevices)));
  return order;
}

Found SearchSome(const CostTable& costs, const Cluster& cluster, const Reduced& all) {
  OrderSearch search(costs, cluster, all.problem.goal);
  for (const std::vector<size_t>& order : OrdersToTry(cluster)) search.Try(order);
  if (IsQuickToCover(all.problem)) {
    if (const auto classes = CoveringClasses(all.problem)) search.Try(OrderOf(all, *classes));
  }
  search.Improve();
  Found found = search.found();
  found.optimal = found.fits && search.value() <= LowerBound(all.problem) * (1 + 1e-9);
  return found;
}

Reduced AllDevices(const CostTable& costs, const Cluster& cluster, BlockGoal goal,
                   const PlacementRules& rules) {
  std::vector<size_t> given(cluster.devices.size());
  std::iota(given.begin(), given.end(), size_t{0});
  Reduced all = Reduce(costs, cluster, goal, rules.given_order ? OneByOne(given) : Alike(cluster));
  all.problem.use_all = rules.use_all;
  all.in_order = rules.given_order;
  if (rules.use_all && !all.in_order && !IsSmall(all.problem)) {
    Reduced given_only = AllDevices(costs, cluster, goal, {.given_order = true, .use_all = true});
    given_only.every_order = false;
    return given_only;
  }
  Require(!rules.use_all || static_cast<int64_t>(given.size()) <= all.problem.units(),
          ErrorKind::kPlan, given.size(), " devices were named, but the model has only ",
          all.problem.units(), " parts to place: its layers, what comes before and what after");
  return all;
}

Found Search(const CostTable& costs, const Cluster& cluster, BlockGoal goal,
             const PlacementRules& rules) {
  const Reduced all = AllDevices(costs, cluster, goal, rules);
  if (all.in_order) return SearchOrder(all);
  if (IsSmall(all.problem)) return SearchAll(all);
  return SearchSome(costs, cluster, all);
}

BlockGoal GoalOf(const Workload& workload) {
  return workload.Goal() == Objective::kThroughput ? BlockGoal::kSlowest : BlockGoal::kSum;
}

/// These devices of the cluster alone.
Cluster Only(const Cluster& cluster, const std::vector<size_t>& devices) {
  Cluster those = cluster;
  those.devices.clear();
  for (const size_t device : devices) those.devices.push_back(cluster.devices[device]);
  return those;
}

/// The GPUs among devices of both kinds; nothing where there is one kind only. Alone they are
/// planned with smaller parts: keys and values, for one, are narrower there than on a CPU.
std::vector<size_t> GpusBesideCpus(const Cluster& cluster, const PlacementRules& rules) {
  std::vector<size_t> gpus;
  for (size_t i = 0; i < cluster.devices.size(); ++i) {
    if (cluster.devices[i].kind == "cuda") gpus.push_back(i);
  }
  if (rules.use_all || gpus.size() == cluster.devices.size()) gpus.clear();
  return gpus;
}

/// A placement with the table that it was found by.
struct Placement {
  Found found;
  CostTable costs;
};

/// Batches are smaller the more stages there are: the number of stages is that of the placement
/// found, beginning with all devices.
Placement SearchStages(const ModelFootprint& footprint, const Cluster& cluster,
                       const Workload& workload, const PlacementRules& rules) {
  std::set<int64_t> tried;
  Placement placement;
  for (int64_t stages = 0; tried.insert(stages).second;) {
    placement.costs = footprint.Costs(workload, cluster, stages);
    placement.found = Search(placement.costs, cluster, GoalOf(workload), rules);
    const auto used = static_cast<int64_t>(placement.found.blocks.size());
    if (StepSequences(workload, used) == placement.costs.step_sequences) break;
    stages = used;
  }
  return placement;
}

double ValueOf(const PlanInput& input, const std::vector<PlacedBlock>& blocks) {
  return Report(input, blocks).value_s;
}

/// A device that alone would give more tokens per second than the plan's stages, whose batches are
/// smaller.
void NoteFasterAlone(const ModelFootprint& footprint, const Cluster& cluster,
                     const Workload& workload, Plan& plan) {
  constexpr size_t kMostDevices = 32;
  constexpr double kWorthSaying = 1.05;
  if (plan.devices.size() < 2 || cluster.devices.size() > kMostDevices) return;
  const PlacedBlock all{0, 0, footprint.config().layers + 2};
  double most = kWorthSaying * plan.predicted.tokens_per_s;
  std::string note;
  for (size_t i = 0; i < cluster.devices.size(); ++i) {
    const Cluster alone = Only(cluster, {i});
    const CostTable costs = footprint.Costs(workload, alone);
    const Plan one = Report({footprint, alone, workload, costs}, {all});
    if (!one.fits || one.predicted.tokens_per_s <= most) continue;
    most = one.predicted.tokens_per_s;
    note =
        StrCat(cluster.IdOf(i), " alone would give ", std::lround(most), " tokens/s, and these ",
               plan.devices.size(), " stages ", std::lround(plan.predicted.tokens_per_s),
               ": each reads its weights for a smaller batch. What the stages shorten is the time "
               "of prompts");
  }
  if (!note.empty()) plan.notes.push_back(note);
}

}  // namespace

Plan DeviceMapPlanner::Plan(const ModelFootprint& footprint, const Cluster& cluster,
                            const Workload& workload, const PlacementRules& rules) {
  Require(!cluster.devices.empty(), ErrorKind::kPlan, "there is no device to plan for");
  Placement best = SearchStages(footprint, cluster, workload, rules);
  const std::vector<size_t> gpus = GpusBesideCpus(cluster, rules);
  if (!gpus.empty()) {
    Placement alone = SearchStages(footprint, Only(cluster, gpus), workload, rules);
    for (PlacedBlock& block : alone.found.blocks) block.device = gpus[block.device];
    const auto value = [&](const Placement& of) {
      return ValueOf({footprint, cluster, workload, of.costs}, of.found.blocks);
    };
    // Batches of one size only can be compared by the time of a step.
    const bool alike = alone.costs.step_sequences == best.costs.step_sequences;
    const bool better = !best.found.fits || (alike && value(alone) <= value(best));
    if (alone.found.fits && better) {
      alone.found.optimal = alone.found.optimal && (best.found.optimal || !best.found.fits);
      best = std::move(alone);
    }
  }
  xcomposer::Plan plan = Report({footprint, cluster, workload, best.costs}, best.found.blocks);
  plan.optimal = best.found.optimal && plan.fits;
  if (plan.fits && plan.objective == "throughput") {
    NoteFasterAlone(footprint, cluster, workload, plan);
  }
  return plan;
}

Plan DeviceMapPlanner::Measure(const ModelFootprint& footprint, const Cluster& cluster,
                               const Workload& workload, const DeviceMap& map) {
  CheckStages(map, footprint.config());
  std::vector<PlacedBlock> blocks;
  std::vector<size_t> used;
  for (const StagePlace& stage : map.stages) {
    const size_t device = DeviceNamed(cluster, stage.device);
    for (const PlacedBlock& other : blocks) {
      Require(other.device != device, ErrorKind::kPlan, "the device map has two stages on ",
              stage.device);
    }
    blocks.push_back({device, stage.first_layer + 1, stage.end_layer + 1});
    used.push_back(device);
  }
  const CostTable costs = footprint.Costs(workload, Only(cluster, used));
  blocks.front().begin = 0;
  blocks.back().end = footprint.config().layers + 2;
  return Report({footprint, cluster, workload, costs}, blocks);
}

bool DeviceMapPlanner::Fits(const ModelFootprint& footprint, const Cluster& cluster,
                            const Workload& workload, const PlacementRules& rules) {
  const std::vector<size_t> gpus = GpusBesideCpus(cluster, rules);
  if (!gpus.empty() && Fits(footprint, Only(cluster, gpus), workload, rules)) return true;
  const CostTable costs = footprint.Costs(workload, cluster);
  const Reduced all = AllDevices(costs, cluster, BlockGoal::kSum, rules);
  if (all.in_order) return CanCoverInOrder(all.problem);
  if (IsSmall(all.problem) || (!rules.use_all && IsQuickToCover(all.problem))) {
    return CanCover(all.problem);
  }
  const std::vector<std::vector<size_t>> orders = OrdersToTry(cluster);
  return std::any_of(orders.begin(), orders.end(), [&](const std::vector<size_t>& order) {
    return CanCoverInOrder(Reduce(costs, cluster, BlockGoal::kSum, OneByOne(order)).problem);
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
