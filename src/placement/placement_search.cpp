#include "placement/placement_search.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include "base/check.h"
#include "placement/block_bounds.h"
#include "placement/block_search.h"
#include "placement/device_orders.h"

namespace xcomposer {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kRounding = 1 + 1e-9;  // between two ways to the same time
/// Orders that are tried where not all of them can be look at this many devices.
constexpr size_t kTriedDevices = 48;
/// Halvings of the time that a stage may take, where the sum counts as well as the slowest stage.
constexpr int kHalvings = 10;

/// Numbers of stages that have the same cost table.
struct StageRange {
  int64_t least = 1;
  int64_t most = 1;
};

/// The problem in bare numbers, and which devices each of its classes stands for.
struct Reduced {
  BlockProblem problem;
  std::vector<std::vector<size_t>> members;
};

std::vector<std::vector<size_t>> OneByOne(const std::vector<size_t>& devices) {
  std::vector<std::vector<size_t>> members;
  for (const size_t device : devices) members.push_back({device});
  return members;
}

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
      seconds += costs.modules[m].StepOn(device.kind).Seconds(device.bandwidth, device.flops);
    }
    result.seconds.push_back(result.seconds.back() + seconds);
  }
  return result;
}

std::vector<PlacedBlock> Placed(const Reduced& reduced, const std::vector<Block>& cut) {
  std::vector<size_t> used(reduced.members.size(), 0);
  std::vector<PlacedBlock> blocks;
  for (const Block& block : cut) {
    const size_t device = reduced.members[block.device_class][used[block.device_class]++];
    blocks.push_back({device, block.begin, block.end});
  }
  return blocks;
}

/// The search on one set of devices.
class Search {
 public:
  Search(const PlacementProblem& problem, const std::vector<size_t>& devices, CostTables& tables)
      : asked_(problem),
        devices_(devices),
        tables_(tables),
        set_(StagesOn(problem.cluster, devices)),
        latency_(problem.workload.Goal() == Objective::kLatency) {
    const int64_t units = problem.footprint.config().layers + 2;
    const auto count = static_cast<int64_t>(devices.size());
    Require(!problem.rules.use_all || count <= units, ErrorKind::kPlan, count,
            " devices were named, but the model has only ", units,
            " parts to place: its layers, what comes before and what after");
    most_ = std::min(count, units);
  }

  FoundPlacement Best() {
    if (IsSmall(Whole(most_).problem)) {
      TryAll();
    } else {
      TryOrders();
    }
    if (best_.fits) {
      best_.bound = std::min(best_.bound, best_.seconds);
    } else {
      FindLeastMissing();
    }
    return std::move(best_);
  }

  bool Fits() const {
    for (const StageRange& range : Ranges(false)) {
      const Reduced whole = Whole(range.most);
      if (IsCoverable(whole.problem)) {
        if (CanCover(whole.problem)) return true;
        continue;
      }
      for (const std::vector<size_t>& order : Orders(range.most)) {
        if (CanCover(InOrder(order, range.most).problem)) return true;
      }
    }
    return false;
  }

 private:
  BlockGoal Goal() const { return latency_ ? BlockGoal::kSum : BlockGoal::kSlowest; }
  double Batches(int64_t stages) const {
    return static_cast<double>(BatchesInFlight(asked_.workload, stages));
  }
  StageSet SetOf(int64_t stages) const {
    StageSet set = set_;
    set.stages = stages;
    return set;
  }

  /// The numbers of stages that are possible, in ranges of equal cost tables; `timed`: in time as
  /// well as in bytes.
  std::vector<StageRange> Ranges(bool timed) const {
    std::vector<StageRange> ranges;
    const Workload& workload = asked_.workload;
    for (int64_t stages = asked_.rules.use_all ? most_ : 1; stages <= most_; ++stages) {
      const auto waiting = [&](int64_t of) {
        return asked_.footprint.WaitingBytes(workload, SetOf(of));
      };
      const bool as_before = !ranges.empty() && waiting(stages) == waiting(ranges.back().least) &&
                             (!timed || StepSequences(workload, stages) ==
                                            StepSequences(workload, ranges.back().least));
      if (!as_before) ranges.push_back({stages, stages});
      ranges.back().most = stages;
    }
    return ranges;
  }

  Reduced Reduce(std::vector<std::vector<size_t>> members, int64_t stages) const {
    const CostTable& costs = tables_.Of(SetOf(stages));
    Reduced reduced;
    reduced.problem.bytes = UnitBytes(costs);
    reduced.problem.goal = Goal();
    reduced.problem.use_all = asked_.rules.use_all;
    reduced.problem.most_blocks = stages;
    reduced.members = std::move(members);
    const size_t classes = reduced.members.size();
    reduced.problem.hops.assign(classes, std::vector<double>(classes));
    for (size_t c = 0; c < classes; ++c) {
      const size_t device = reduced.members[c].front();
      reduced.problem.classes.push_back(ClassOf(costs, asked_.cluster.devices[device]));
      reduced.problem.classes.back().count = static_cast<int64_t>(reduced.members[c].size());
      for (size_t d = 0; d < classes; ++d) {
        reduced.problem.hops[c][d] = asked_.cluster.LinkBetween(device, reduced.members[d].front())
                                         .Seconds(static_cast<double>(costs.hop_bytes));
      }
    }
    return reduced;
  }

  /// All devices, for at most so many stages.
  Reduced Whole(int64_t stages) const {
    const bool given = asked_.rules.given_order;
    Reduced reduced =
        Reduce(given ? OneByOne(devices_) : AlikeDevices(asked_.cluster, devices_), stages);
    reduced.problem.in_order = given;
    return reduced;
  }

  /// Any number of blocks over devices in this order.
  Reduced InOrder(const std::vector<size_t>& order, int64_t stages) const {
    Reduced reduced = Reduce(OneByOne(order), stages);
    reduced.problem.in_order = true;
    reduced.problem.most_blocks = 0;
    return reduced;
  }

  /// Where not all orders can be tried: each has as many devices as there are stages at most, but
  /// for the largest number.
  std::vector<std::vector<size_t>> Orders(int64_t stages) const {
    if (asked_.rules.given_order) return {devices_};
    const bool all = asked_.rules.use_all || stages == most_;
    const size_t tried = asked_.rules.use_all ? devices_.size() : kTriedDevices;
    return OrdersToTry(asked_.cluster, devices_, all ? tried : static_cast<size_t>(stages));
  }

  void Keep(const Reduced& reduced, const std::optional<BlockAnswer>& answer) {
    if (answer) KeepBlocks(Placed(reduced, answer->blocks));
  }
  void KeepBlocks(std::vector<PlacedBlock> blocks) {
    const double seconds = SecondsOf(blocks);
    if (best_.fits && seconds * kRounding >= best_.seconds) return;
    best_.blocks = std::move(blocks);
    best_.seconds = seconds;
    best_.fits = true;
  }

  double SecondsOf(const std::vector<PlacedBlock>& blocks) const {
    const auto stages = static_cast<int64_t>(blocks.size());
    const CostTable& costs = tables_.Of(SetOf(stages));
    const StepTimes times =
        StepTimesOf({asked_.footprint, asked_.cluster, asked_.workload, costs}, blocks);
    return latency_ ? times.sum : RoundSeconds(asked_.workload, times, stages);
  }

  /// A number of stages, and the time that none of its placements falls below.
  struct Candidate {
    int64_t stages = 1;
    double bound = 0;
    double value = 0;  ///< the smallest of the goal
  };

  /// Exactly: every number of stages whose bound is below what has been found.
  void TryAll() {
    std::vector<Candidate> candidates;
    for (const StageRange& range : Ranges(true)) AddCandidates(range, candidates);
    std::stable_sort(candidates.begin(), candidates.end(),
                     [](const Candidate& a, const Candidate& b) { return a.bound < b.bound; });
    best_.bound = kInfinity;
    for (const Candidate& candidate : candidates) {
      if (best_.fits && candidate.bound * kRounding >= best_.seconds) break;
      Try(candidate);
    }
  }

  void AddCandidates(const StageRange& range, std::vector<Candidate>& candidates) const {
    Reduced whole = Whole(range.most);
    const std::vector<double> values = BestValues(whole.problem);
    std::vector<double> sums;
    if (CountsTheSum(range.most)) {
      whole.problem.goal = BlockGoal::kSum;
      sums = BestValues(whole.problem);
    }
    for (int64_t stages = range.least; stages <= range.most; ++stages) {
      const auto at = static_cast<size_t>(stages);
      double bound = Batches(stages) * values[at];
      if (!sums.empty()) bound = std::max(bound, sums[at] + LeastBack(whole, stages));
      if (bound < kInfinity) candidates.push_back({stages, bound, values[at]});
    }
  }

  /// The shortest way of the ids of one step between two devices; nothing for a stage alone.
  double LeastBack(const Reduced& whole, int64_t stages) const {
    if (stages == 1) return 0;
    const double bytes = 4 * static_cast<double>(StepSequences(asked_.workload, stages));
    double least = kInfinity;
    for (const std::vector<size_t>& from : whole.members) {
      for (const std::vector<size_t>& to : whole.members) {
        if (&from == &to && from.size() == 1) continue;
        const Link link = asked_.cluster.LinkBetween(from.front(), to.front());
        least = std::min(least, link.Seconds(bytes));
      }
    }
    return least;
  }

  /// With fewer batches than stages a placement may be the better for a smaller sum.
  bool CountsTheSum(int64_t stages) const {
    return !latency_ && BatchesInFlight(asked_.workload, stages) < stages;
  }

  void Try(const Candidate& candidate) {
    Reduced whole = Whole(candidate.stages);
    if (!CountsTheSum(candidate.stages)) {
      const double limit = latency_ ? kInfinity : candidate.value;
      Keep(whole, BestBlocksOf(whole.problem, candidate.stages, limit));
      return;
    }
    TryBetween(whole, candidate);
  }

  /// The smaller the slowest stage may be, the larger the sum: the best is where both count alike.
  void TryBetween(Reduced& whole, const Candidate& candidate) {
    const double batches = Batches(candidate.stages);
    whole.problem.goal = BlockGoal::kSum;
    Keep(whole, BestBlocksOf(whole.problem, candidate.stages, kInfinity));
    Keep(whole, BestBlocksOf(whole.problem, candidate.stages, candidate.value));
    if (batches > 1) {
      double low = candidate.value;
      double high = best_.seconds / batches;  // of a better one no stage takes longer
      for (int i = 0; i < kHalvings; ++i) {
        const double middle = (low + high) / 2;
        const auto answer = BestBlocksOf(whole.problem, candidate.stages, middle);
        Keep(whole, answer);
        (answer && answer->value <= batches * middle ? high : low) = middle;
      }
    }
    best_.bound = std::min(best_.bound, candidate.bound);
  }

  /// Where there are too many devices for all of their subsets and orders.
  void TryOrders() {
    best_.bound = kInfinity;
    for (const StageRange& range : Ranges(true)) {
      for (int64_t stages = range.least; stages <= range.most; ++stages) {
        if (latency_ && stages < range.most) continue;
        const Reduced whole = Whole(stages);
        best_.bound = std::min(best_.bound, Batches(stages) * LowerBound(whole.problem));
        if (IsSmall(whole.problem)) {
          KeepBest(whole);
          continue;
        }
        if (asked_.rules.given_order && stages < most_) continue;
        for (const std::vector<size_t>& order : Orders(stages)) KeepBest(InOrder(order, stages));
      }
    }
    if (!best_.fits) TryCover();
  }

  void KeepBest(Reduced reduced) {
    Keep(reduced, BestBlocks(reduced.problem));
    if (!CountsTheSum(most_)) return;
    reduced.problem.goal = BlockGoal::kSum;
    Keep(reduced, BestBlocks(reduced.problem));
  }

  /// A cut that fits is found for more devices than the best one; its order serves for a better
  /// one.
  void TryCover() {
    if (asked_.rules.given_order || asked_.rules.use_all) return;
    for (const StageRange& range : Ranges(false)) {
      const Reduced whole = Whole(range.most);
      if (!IsCoverable(whole.problem)) continue;
      std::vector<size_t> order;
      for (const PlacedBlock& block : Placed(whole, Cover(whole.problem))) {
        order.push_back(block.device);
      }
      if (order.empty()) continue;
      KeepBest(InOrder(order, range.most));
    }
  }

  void FindLeastMissing() {
    for (const StageRange& range : Ranges(false)) {
      const Reduced whole = Whole(range.most);
      best_.certain = best_.certain && IsCoverable(whole.problem);
      if (IsSmall(whole.problem)) {
        KeepMissing(whole);
        continue;
      }
      for (const std::vector<size_t>& order : Orders(range.most)) {
        KeepMissing(InOrder(order, range.most));
      }
    }
  }

  void KeepMissing(const Reduced& reduced) {
    const BlockAnswer least = LeastMissing(reduced.problem);
    if (least.blocks.empty()) return;
    if (!best_.blocks.empty() && least.missing >= best_.missing) return;
    best_.blocks = Placed(reduced, least.blocks);
    best_.missing = least.missing;
  }

  const PlacementProblem& asked_;
  const std::vector<size_t>& devices_;
  CostTables& tables_;
  StageSet set_;
  bool latency_;
  int64_t most_ = 1;
  FoundPlacement best_;
};

}  // namespace

const CostTable& CostTables::Of(const StageSet& set) {
  const Workload& workload = problem_.workload;
  const Key key{StepSequences(workload, set.stages), problem_.footprint.WaitingBytes(workload, set),
                set.cpu, set.cuda, set.several_nodes};
  const auto it = tables_.find(key);
  if (it != tables_.end()) return it->second;
  return tables_.emplace(key, problem_.footprint.Costs(workload, set)).first->second;
}

StageSet StagesOf(const PlacementProblem& problem, const std::vector<PlacedBlock>& blocks) {
  std::vector<size_t> devices;
  for (const PlacedBlock& block : blocks) devices.push_back(block.device);
  return StagesOn(problem.cluster, devices);
}

FoundPlacement FindPlacement(const PlacementProblem& problem, const std::vector<size_t>& devices,
                             CostTables& tables) {
  return Search(problem, devices, tables).Best();
}

bool FitsOn(const PlacementProblem& problem, const std::vector<size_t>& devices,
            CostTables& tables) {
  return Search(problem, devices, tables).Fits();
}

}  // namespace xcomposer
