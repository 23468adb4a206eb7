#include <algorithm>
#include <array>
#include <optional>
#include <random>

#include "gmock/gmock.h"
#include "placement/block_bounds.h"
#include "placement/planner.h"
#include "worlds.h"

namespace xcomposer {
namespace {

using testing::Not;
using testing::SizeIs;

/// What a stranger can recompute: nothing but the sizes and times of modules, the budgets and
/// overheads of devices, and the hand-overs between them, as a plan prints them.
class BruteForce {
 public:
  explicit BruteForce(const Plan& plan) : plan_(plan), units_(UnitsOf(plan)) {}

  /// The smallest value over all subsets, orders and cuts, or nothing where none fits.
  std::optional<double> Best() {
    std::vector<size_t> order;
    Extend(order);
    return best_;
  }

  static bool IsLayer(const std::string& name) { return name.rfind("model.layers.", 0) == 0; }

 private:
  /// Module ranges that may be cut apart.
  static std::vector<std::vector<size_t>> UnitsOf(const Plan& plan) {
    std::vector<std::vector<size_t>> units(1);
    bool after_layers = false;
    for (size_t m = 0; m < plan.modules.size(); ++m) {
      const bool layer = IsLayer(plan.modules[m].name);
      if (layer || (!after_layers && m > 0 && IsLayer(plan.modules[m - 1].name))) {
        units.emplace_back();
        after_layers = !layer;
      }
      units.back().push_back(m);
    }
    return units;
  }

  void Extend(std::vector<size_t>& order) {
    if (!order.empty()) {
      std::vector<int64_t> ends;
      Cut(order, ends);
    }
    if (order.size() == units_.size()) return;
    for (size_t d = 0; d < plan_.candidates.size(); ++d) {
      if (std::find(order.begin(), order.end(), d) != order.end()) continue;
      order.push_back(d);
      Extend(order);
      order.pop_back();
    }
  }

  void Cut(const std::vector<size_t>& order, std::vector<int64_t>& ends) {
    const auto units = static_cast<int64_t>(units_.size());
    const int64_t begin = ends.empty() ? 0 : ends.back();
    if (ends.size() + 1 == order.size()) {
      if (begin == units) return;
      ends.push_back(units);
      Value(order, ends);
      ends.pop_back();
      return;
    }
    for (int64_t end = begin + 1; end < units; ++end) {
      ends.push_back(end);
      Cut(order, ends);
      ends.pop_back();
    }
  }

  void Value(const std::vector<size_t>& order, const std::vector<int64_t>& ends) {
    double sum = 0;
    double slowest = 0;
    int64_t begin = 0;
    for (size_t i = 0; i < order.size(); ++i) {
      int64_t bytes = plan_.candidates[order[i]].overhead;
      double seconds = 0;
      for (int64_t u = begin; u < ends[i]; ++u) {
        for (const size_t m : units_[static_cast<size_t>(u)]) {
          const PlannedModule& module = plan_.modules[m];
          bytes += module.weight_bytes + module.kv_bytes + module.activation_bytes +
                   module.workspace_bytes;
          const bool request = plan_.objective == "request";
          seconds += (request ? module.request_s : module.step_s)[order[i]].second;
        }
      }
      if (bytes > plan_.candidates[order[i]].budget) return;
      if (i + 1 < order.size()) seconds += plan_.hops[order[i]][order[i + 1]];
      sum += seconds;
      slowest = std::max(slowest, seconds);
      begin = ends[i];
    }
    const double value = plan_.objective == "throughput" ? slowest : sum;
    if (!best_ || value < *best_) best_ = value;
  }

  const Plan& plan_;
  std::vector<std::vector<size_t>> units_;
  std::optional<double> best_;
};

/// Devices of random size, speed and place; about half of the worlds are too small for the model.
Cluster RandomCluster(std::mt19937& random, int64_t model_bytes, int devices) {
  const auto draw = [&](double low, double high) {
    return std::uniform_real_distribution<double>(low, high)(random);
  };
  Cluster cluster;
  const int nodes = 1 + static_cast<int>(random() % 3);
  for (int n = 0; n < nodes; ++n) {
    cluster.nodes.push_back({"n" + std::to_string(n), {draw(1e9, 50e9), draw(0, 50e-6)}});
  }
  cluster.default_link = {draw(1e8, 3e9), draw(10e-6, 400e-6)};
  if (nodes > 1 && random() % 2 == 0) cluster.links[{0, 1}] = {draw(1e9, 30e9), draw(0, 90e-6)};
  for (int d = 0; d < devices; ++d) {
    ClusterDevice device;
    device.node = random() % static_cast<size_t>(nodes);
    device.name = "cuda:" + std::to_string(d);
    device.kind = "cuda";
    // Every third device is like the one before it, so that grouping has something to do, or
    // nearly so, and then it has not.
    if (d > 0 && random() % 3 == 0) {
      device = cluster.devices.back();
      device.name = "cuda:" + std::to_string(d);
      if (random() % 3 == 0) device.bandwidth *= draw(0.5, 2);
      if (random() % 3 == 0) device.flops *= draw(0.1, 10);
    } else {
      const double share = devices > 4 ? draw(0.02, 0.5) : draw(0.1, 0.9);
      device.budget =
          static_cast<int64_t>(share * static_cast<double>(model_bytes)) + (int64_t{900} << 20);
      device.memory = device.budget;
      device.bandwidth = draw(2e11, 4e12);
      device.flops = draw(2e13, 9e14);
    }
    cluster.devices.push_back(device);
  }
  return cluster;
}

Objective AnyObjective(std::mt19937& random) {
  constexpr std::array<Objective, 3> kAll = {Objective::kThroughput, Objective::kLatency,
                                             Objective::kRequest};
  return kAll[random() % kAll.size()];
}

int64_t BytesOf(const ModelFootprint& footprint, const Workload& workload) {
  int64_t bytes = 0;
  for (const ModuleFootprint& module : footprint.Costs(workload, Cluster()).modules) {
    bytes += module.bytes();
  }
  return bytes;
}

TEST(BruteForce, PlansAreAsGood) {
  std::mt19937 random(20261125);
  int fitting = 0;
  int refused = 0;
  for (int round = 0; round < 3000; ++round) {
    const ModelFootprint footprint(SmallModel(1 + static_cast<int64_t>(random() % 6)));
    Workload workload = TextWorkload(512 + static_cast<int64_t>(random() % 8192),
                                     1 + static_cast<int64_t>(random() % 4));
    workload.images = static_cast<int64_t>(random() % 2);
    workload.objective = AnyObjective(random);
    workload.answer_tokens = static_cast<int64_t>(random() % 300);
    const Cluster cluster =
        RandomCluster(random, BytesOf(footprint, workload), 1 + static_cast<int>(random() % 4));
    const Plan plan = DeviceMapPlanner::Plan(footprint, cluster, workload);
    const std::optional<double> best = BruteForce(plan).Best();
    ASSERT_EQ(plan.fits, best.has_value()) << "round " << round;
    ASSERT_EQ(DeviceMapPlanner::Fits(footprint, cluster, workload), plan.fits);
    (plan.fits ? fitting : refused) += 1;
    if (!best) {
      ASSERT_THAT(plan.shortages, Not(SizeIs(0)));
      for (const PlanShortage& shortage : plan.shortages) EXPECT_GT(shortage.missing(), 0);
      continue;
    }
    EXPECT_TRUE(plan.optimal);
    // Sums in another order differ in the last bits.
    ASSERT_NEAR(plan.value_s, *best, 1e-12 * *best) << "round " << round;
    for (const PlannedDevice& device : plan.devices) {
      int64_t total = device.bytes.overhead;
      for (const std::string& part : device.parts) {
        for (const PlannedModule& module : plan.modules) {
          if (module.name != part) continue;
          total += module.weight_bytes + module.kv_bytes + module.activation_bytes +
                   module.workspace_bytes;
        }
      }
      EXPECT_EQ(device.bytes.total(), total);
      EXPECT_LE(total, device.budget);
    }
  }
  // The worlds must exercise both answers.
  EXPECT_GT(fitting, 500);
  EXPECT_GT(refused, 500);
}

/// Too many different devices for the search of all orders.
TEST(BruteForce, PlansOfManyDifferentDevicesAreNearlyAsGood) {
  constexpr int kDevices = 15;
  std::mt19937 random(20261128);
  const ModelFootprint footprint(SmallModel(2));
  int fitting = 0;
  int proven = 0;
  double gaps = 0;
  for (int round = 0; round < 40; ++round) {
    Workload workload = TextWorkload(2048, 4);
    workload.objective = AnyObjective(random);
    const Cluster cluster = RandomCluster(random, BytesOf(footprint, workload), kDevices);
    const Plan plan = DeviceMapPlanner::Plan(footprint, cluster, workload);
    const std::optional<double> best = BruteForce(plan).Best();
    ASSERT_EQ(plan.fits, best.has_value()) << "round " << round;
    ASSERT_EQ(DeviceMapPlanner::Fits(footprint, cluster, workload), plan.fits);
    if (!best) continue;
    ++fitting;
    ASSERT_GE(plan.value_s, *best * (1 - 1e-12));
    gaps += plan.value_s / *best - 1;
    if (plan.optimal) {
      ++proven;
      EXPECT_NEAR(plan.value_s, *best, 1e-9 * *best) << "round " << round;
    }
  }
  EXPECT_GT(fitting, 20);
  EXPECT_LT(fitting, 40);
  EXPECT_GT(proven, 5);
  EXPECT_LT(proven, fitting);
  // What moving single devices leaves behind; without it the mean is six times as much.
  EXPECT_LT(gaps / fitting, 0.02);
}

/// Devices with hardly more room than the model needs: few orders fit, or none does.
TEST(BruteForce, WhatFitsInSomeOrderIsFound) {
  constexpr int kDevices = 12;
  std::mt19937 random(20261129);
  const ModelFootprint footprint(SmallModel(20));
  const Workload workload = TextWorkload(2048, 1);
  const auto bytes = static_cast<double>(BytesOf(footprint, workload));
  int fitting = 0;
  for (int round = 0; round < 60; ++round) {
    Cluster cluster = RandomCluster(random, 0, kDevices);
    const int64_t overhead =
        footprint.Costs(workload, cluster).OverheadOn(cluster.devices[0].kind).bytes();
    for (ClusterDevice& device : cluster.devices) {
      const double share = std::uniform_real_distribution<double>(0.3, 2.1)(random) / kDevices;
      device.budget = overhead + static_cast<int64_t>(share * bytes);
    }
    const Plan plan = DeviceMapPlanner::Plan(footprint, cluster, workload);
    ASSERT_EQ(plan.fits, DeviceMapPlanner::Fits(footprint, cluster, workload)) << round;
    if (plan.fits) ++fitting;
  }
  EXPECT_GT(fitting, 10);
  EXPECT_LT(fitting, 50);
}

/// Any numbers, so that hand-overs may cost as much as blocks.
BlockProblem RandomProblem(std::mt19937& random) {
  const auto draw = [&](double low, double high) {
    return std::uniform_real_distribution<double>(low, high)(random);
  };
  BlockProblem problem;
  const size_t units = 1 + random() % 6;
  problem.bytes = {0};
  for (size_t unit = 0; unit < units; ++unit) {
    problem.bytes.push_back(problem.bytes.back() + 1 + static_cast<int64_t>(random() % 9));
  }
  const size_t classes = 1 + random() % 4;
  for (size_t c = 0; c < classes; ++c) {
    BlockClass device{
        1 + static_cast<int64_t>(random() % 2), static_cast<int64_t>(random() % 20), {0}};
    for (size_t unit = 0; unit < units; ++unit) {
      device.seconds.push_back(device.seconds.back() + draw(0.5, 2));
    }
    problem.classes.push_back(device);
    problem.hops.emplace_back();
    for (size_t d = 0; d < classes; ++d) problem.hops.back().push_back(draw(0.2, 2));
  }
  problem.goal = random() % 2 ? BlockGoal::kSlowest : BlockGoal::kSum;
  return problem;
}

TEST(BlockBounds, HoldForEveryProblem) {
  std::mt19937 random(7);
  int fitting = 0;
  int tight = 0;
  for (int round = 0; round < 5000; ++round) {
    const BlockProblem problem = RandomProblem(random);
    const std::optional<BlockAnswer> best = BestBlocks(problem);
    const std::optional<std::vector<size_t>> classes = CoveringClasses(problem);
    ASSERT_EQ(CanCover(problem), best.has_value()) << "round " << round;
    ASSERT_EQ(classes.has_value(), best.has_value()) << "round " << round;
    if (!best) continue;
    ++fitting;
    const double bound = LowerBound(problem);
    ASSERT_LE(bound, best->value * (1 + 1e-9)) << "round " << round;
    if (bound > best->value * (1 - 1e-9)) ++tight;
    BlockProblem ordered = problem;
    ordered.classes.clear();
    for (const size_t c : *classes) {
      ordered.classes.push_back(problem.classes[c]);
      ordered.classes.back().count = 1;
    }
    ASSERT_TRUE(CanCoverInOrder(ordered)) << "round " << round;
  }
  EXPECT_GT(fitting, 1000);
  EXPECT_LT(fitting, 4000);
  EXPECT_GT(tight, 100);
}

}  // namespace
}  // namespace xcomposer
