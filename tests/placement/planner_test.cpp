#include "placement/planner.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <numeric>
#include <random>

#include "gmock/gmock.h"
#include "placement/alternatives.h"
#include "worlds.h"
#include "xcomposer/error.h"

namespace xcomposer {
namespace {

using testing::AnyOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::SizeIs;

/// The balance of the head against layers, worked out by hand in the performance figures: a layer
/// reads 0.436 GB a step, the head 0.758 GB.
TEST(Planner, WeighsTheHeadAgainstLayers) {
  const ModelFootprint footprint(Shipped(Kind::kVl7b));
  Workload workload = TextWorkload(1024, 8);
  workload.objective = Objective::kThroughput;
  const auto layers = [&](int devices) {
    return LayersPerStage(
        DeviceMapPlanner::Plan(footprint, Alike(devices, int64_t{40} << 30), workload));
  };
  EXPECT_THAT(layers(1), ElementsAre(32));
  EXPECT_THAT(layers(2), ElementsAre(17, 15));
  EXPECT_THAT(layers(3), ElementsAre(11, 11, 10));
  EXPECT_THAT(layers(4), AnyOf(ElementsAre(7, 9, 9, 7), ElementsAre(9, 8, 8, 7)));
}

TEST(Planner, BalanceReachesTheComputedShareOfLinearSpeed) {
  const ModelFootprint footprint(Shipped(Kind::kVl7b));
  Workload workload = TextWorkload(1, 8);  // no keys to read: weights alone
  workload.objective = Objective::kThroughput;
  const auto plan = [&](int devices) {
    return DeviceMapPlanner::Plan(footprint, Alike(devices, int64_t{40} << 30, 1e12, {1e15, 0}),
                                  workload);
  };
  const double whole = plan(1).value_s;
  EXPECT_NEAR(whole / plan(2).value_s / 2, 0.992, 0.0005);
  EXPECT_NEAR(whole / plan(3).value_s / 3, 0.958, 0.0005);
  EXPECT_NEAR(whole / plan(4).value_s / 4, 0.937, 0.0005);
  // PP8: nine stages' worth of rounding; the figure is given without decimals.
  EXPECT_NEAR(whole / plan(8).value_s / 8, 0.84, 0.005);
}

TEST(Planner, LatencyTakesTheFastestDeviceThatHoldsAll) {
  const ModelFootprint footprint(Shipped(Kind::kVl7b));
  Cluster cluster = Alike(3, int64_t{40} << 30);
  cluster.devices[2].bandwidth = 3.35e12;
  const Plan plan = DeviceMapPlanner::Plan(footprint, cluster, TextWorkload(1024, 1));
  ASSERT_THAT(plan.devices, SizeIs(1));
  EXPECT_EQ(plan.devices[0].device, "a/cuda:2");
  // 14.717 GB of weights and 0.134 GB of keys and values.
  EXPECT_NEAR(plan.value_s, 14.851e9 / 3.35e12, 1e-6);
}

TEST(Planner, GivenOrderIsKept) {
  const ModelFootprint footprint(Shipped(Kind::kVl7b));
  Cluster cluster = Alike(2, int64_t{12} << 30);
  cluster.devices[1].bandwidth = 1e11;  // better without the head
  Workload workload = TextWorkload(1024, 2);
  const Plan any = DeviceMapPlanner::Plan(footprint, cluster, workload);
  const Plan given = DeviceMapPlanner::Plan(footprint, cluster, workload, {.given_order = true});
  ASSERT_TRUE(any.fits && given.fits);
  EXPECT_EQ(given.devices[0].device, "a/cuda:0");
  EXPECT_EQ(any.devices[0].device, "a/cuda:1");
  EXPECT_LT(any.value_s, given.value_s);
}

TEST(Planner, UseAllGivesEveryDeviceAStage) {
  const ModelFootprint footprint(SmallModel(3));
  const Cluster cluster = Alike(3, int64_t{40} << 30);
  const Plan plan =
      DeviceMapPlanner::Plan(footprint, cluster, TextWorkload(1024, 1), {.use_all = true});
  EXPECT_THAT(plan.devices, SizeIs(3));
  const auto too_many = [&] {
    DeviceMapPlanner::Plan(footprint, Alike(6, int64_t{40} << 30), TextWorkload(1024, 1),
                           {.use_all = true});
  };
  EXPECT_THROW(too_many(), Error);
}

/// 64 machines of 8 devices; the time limit belongs to the promise, with a wide margin for slow
/// builds.
TEST(Planner, LargeClustersArePlannedQuickly) {
  const ModelFootprint footprint(Shipped(Kind::k25_7b));
  Cluster cluster;
  for (int n = 0; n < 64; ++n) {
    cluster.nodes.push_back({"n" + std::to_string(n), {25e9, 8e-6}});
    for (int d = 0; d < 8; ++d) {
      ClusterDevice device = Alike(1, int64_t{24} << 30).devices[0];
      device.node = static_cast<size_t>(n);
      device.name = "cuda:" + std::to_string(d);
      if (n % 2) device.bandwidth = 9e11;
      if (n % 3 == 0) device.budget = int64_t{3} << 30;
      cluster.devices.push_back(device);
    }
  }
  cluster.default_link = {3e9, 30e-6};
  for (const Objective objective : {Objective::kThroughput, Objective::kLatency}) {
    Workload workload = TextWorkload(4096, 64);
    workload.sequences = objective == Objective::kLatency ? 1 : 64;
    workload.objective = objective;
    const auto start = std::chrono::steady_clock::now();
    const Plan plan = DeviceMapPlanner::Plan(footprint, cluster, workload);
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
    ASSERT_TRUE(plan.fits);
    for (const PlannedDevice& device : plan.devices) EXPECT_GE(device.headroom(), 0);
  }
}

TEST(Planner, ProvesTheOptimumOfManyAlike) {
  const ModelFootprint footprint(Shipped(Kind::kVl7b));
  Workload workload = TextWorkload(1024, 64);
  const Plan many = DeviceMapPlanner::Plan(footprint, Alike(64, int64_t{8} << 30), workload);
  EXPECT_TRUE(many.optimal);
  // One layer on each is as fast as it gets; the head alone takes longer.
  EXPECT_NEAR(many.value_s, many.modules.back().step_s[0].second, 1e-9);
}

PlanQuestion QuestionOf(const ModelFootprint& footprint, const Cluster& cluster,
                        const Workload& workload) {
  PlanQuestion question;
  question.footprint = &footprint;
  question.cluster = cluster;
  question.workload = workload;
  question.picture = [workload](int64_t, int64_t) { return workload.picture; };
  return question;
}

TEST(Planner, AlternativesFit) {
  const ModelFootprint footprint(Shipped(Kind::kVl7b));
  Workload workload = TextWorkload(65536, 4);
  workload.images = 1;
  const PlanQuestion question = QuestionOf(footprint, Alike(1, int64_t{24} << 30), workload);
  ASSERT_FALSE(DeviceMapPlanner::Plan(footprint, question.cluster, workload).fits);
  std::vector<std::string> changes;
  for (const PlanAlternative& alternative : FindAlternatives(question)) {
    changes.push_back(alternative.arguments.at(0));
    EXPECT_THAT(alternative.devices, Not(SizeIs(0)));
  }
  EXPECT_THAT(changes, testing::IsSupersetOf({"--context", "--extra-devices"}));
}

/// A little more of what an alternative makes smaller would not fit.
TEST(Planner, AlternativesChangeNoMoreThanTheyMust) {
  const ModelFootprint footprint(Shipped(Kind::kVl7b));
  const Workload workload = TextWorkload(65536, 4);
  const PlanQuestion question = QuestionOf(footprint, Alike(1, int64_t{24} << 30), workload);
  int looked_at = 0;
  for (const PlanAlternative& alternative : FindAlternatives(question)) {
    Workload more = workload;
    const int64_t value = std::atoll(alternative.arguments.at(1).c_str());
    if (alternative.arguments[0] == "--context") {
      more.context = value + 256;
    } else if (alternative.arguments[0] == "--sequences") {
      more.sequences = value + 1;
    } else {
      continue;
    }
    ++looked_at;
    EXPECT_FALSE(DeviceMapPlanner::Fits(footprint, question.cluster, more)) << alternative.change;
  }
  EXPECT_GE(looked_at, 1);
}

/// What fits by a hair now would be refused a moment later.
TEST(Planner, AlternativesFitAMomentLaterToo) {
  const ModelFootprint footprint(Shipped(Kind::kVl7b));
  PlanQuestion question =
      QuestionOf(footprint, Alike(2, int64_t{12} << 30), TextWorkload(65536, 4));
  const std::vector<PlanAlternative> exact = FindAlternatives(question);
  question.later = Alike(2, int64_t{11} << 30);
  const std::vector<PlanAlternative> careful = FindAlternatives(question);
  ASSERT_THAT(exact, Not(SizeIs(0)));
  ASSERT_THAT(careful, Not(SizeIs(0)));
  ASSERT_EQ(careful[0].arguments[0], "--context");
  EXPECT_LT(std::stoll(careful[0].arguments[1]), std::stoll(exact[0].arguments[1]));
  for (const PlanAlternative& alternative : careful) {
    // The plan itself is that of the devices as they are.
    for (const PlannedDevice& device : alternative.devices) {
      EXPECT_EQ(device.budget, int64_t{12} << 30) << alternative.change;
    }
    if (alternative.arguments[0] != "--context") continue;
    const Workload workload = TextWorkload(std::stoll(alternative.arguments[1]), 4);
    EXPECT_TRUE(DeviceMapPlanner::Fits(footprint, *question.later, workload));
  }
}

TEST(Planner, SeveralChangesWhereOneIsNotEnough) {
  const ModelFootprint footprint(Shipped(Kind::k25_7b));
  Workload workload = TextWorkload(262144, 16);
  workload.images = 1;
  const PlanQuestion question = QuestionOf(footprint, Alike(1, int64_t{11} << 30), workload);
  const std::vector<PlanAlternative> alternatives = FindAlternatives(question);
  ASSERT_THAT(alternatives, Not(SizeIs(0)));
  EXPECT_GT(alternatives[0].arguments.size(), 2u);
}

TEST(Planner, NothingHelpsWhereNoLayerFits) {
  const ModelFootprint footprint(Shipped(Kind::kVl7b));
  const PlanQuestion question =
      QuestionOf(footprint, Alike(1, int64_t{700} << 20), TextWorkload(1024, 1));
  EXPECT_THAT(FindAlternatives(question), SizeIs(0));
}

TEST(Planner, ASlowCardLeftOutLeavesBatchesWhole) {
  const ModelFootprint footprint(Shipped(Kind::kVl7b));
  Cluster cluster = Alike(1, int64_t{24} << 30, 1.008e12);
  const Workload workload = TextWorkload(2048, 8);
  const Plan alone = DeviceMapPlanner::Plan(footprint, cluster, workload);
  EXPECT_EQ(alone.workload.step_sequences, 8);
  cluster.devices.push_back(cluster.devices[0]);
  cluster.devices[1].name = "cuda:1";
  cluster.devices[1].bandwidth = 1e6;  // too slow for anything
  const Plan both = DeviceMapPlanner::Plan(footprint, cluster, workload);
  ASSERT_THAT(both.devices, SizeIs(1));
  EXPECT_EQ(both.workload.step_sequences, 8);
  EXPECT_EQ(both.predicted.tokens_per_s, alone.predicted.tokens_per_s);
  EXPECT_THAT(both.notes, SizeIs(0));
}

TEST(Planner, SaysWhereOneDeviceAloneIsFaster) {
  const ModelFootprint footprint(Shipped(Kind::kVl7b));
  Cluster cluster = Alike(2, int64_t{24} << 30, 1.008e12);
  cluster.devices[1].budget = int64_t{8} << 30;
  cluster.devices[1].bandwidth = 448e9;
  const Workload workload = TextWorkload(2048, 8);
  const Plan plan = DeviceMapPlanner::Plan(footprint, cluster, workload);
  ASSERT_THAT(plan.devices, SizeIs(2));
  ASSERT_THAT(plan.notes, SizeIs(1));
  EXPECT_THAT(plan.notes[0], HasSubstr("a/cuda:0 alone would give"));
}

TEST(Planner, NoSequenceIsFasterThanItsWayThroughTheStages) {
  const ModelFootprint footprint(Shipped(Kind::kVl7b));
  for (const int64_t sequences : {1, 2, 3, 8, 40}) {
    Workload workload = TextWorkload(2048, sequences);
    workload.objective = Objective::kThroughput;
    const Plan plan = DeviceMapPlanner::Plan(footprint, Alike(8, int64_t{24} << 30), workload);
    EXPECT_LE(plan.predicted.tokens_per_s * plan.predicted.decode_step_s,
              static_cast<double>(sequences) * (1 + 1e-12));
  }
}

TEST(Planner, AGpuThatHoldsAllKeepsThePicturesToItself) {
  const ModelFootprint footprint(Shipped(Kind::k25_7b));
  Workload workload = TextWorkload(4096, 1);
  workload.images = 1;
  workload.picture = {3360, 2240, 4, 6, 10101};
  Cluster cluster = Alike(1, int64_t{80} << 30);
  const int64_t needed =
      DeviceMapPlanner::Plan(footprint, cluster, workload).devices[0].bytes.total();
  cluster.devices[0].budget = needed;
  cluster.devices.push_back(cluster.devices[0]);
  ClusterDevice& cpu = cluster.devices[1];
  cpu.name = cpu.kind = "cpu";
  cpu.budget = int64_t{64} << 30;
  cpu.bandwidth = 50e9;
  cpu.flops = 1e12;
  const Plan plan = DeviceMapPlanner::Plan(footprint, cluster, workload);
  ASSERT_THAT(plan.devices, SizeIs(1));
  EXPECT_EQ(plan.devices[0].device, "a/cuda:0");
  EXPECT_EQ(plan.devices[0].bytes.total(), needed);
  EXPECT_TRUE(plan.optimal);
}

/// A card that holds half of the model, beside a processor.
Cluster SmallGpuAndCpu() {
  Cluster cluster = Alike(1, int64_t{11} << 30, 360e9, {12e9, 10e-6});
  cluster.devices[0].flops = 51e12;
  cluster.devices.push_back({.node = 0,
                             .name = "cpu",
                             .kind = "cpu",
                             .model = "",
                             .memory = int64_t{64} << 30,
                             .budget = int64_t{60} << 30,
                             .bandwidth = 50e9,
                             .flops = 1e12});
  return cluster;
}

TEST(Planner, RequestsCountPicturesPromptAndAnswer) {
  const ModelFootprint footprint(Shipped(Kind::k4khd7b));
  Workload workload = TextWorkload(8192, 1);
  workload.images = 1;
  workload.picture = {336, 8400, 25, 1, 4057};
  workload.objective = Objective::kLatency;
  const Plan latency = DeviceMapPlanner::Plan(footprint, SmallGpuAndCpu(), workload);
  workload.objective = Objective::kRequest;
  const Plan request = DeviceMapPlanner::Plan(footprint, SmallGpuAndCpu(), workload);
  // The tower is not read for a token: the memory that it takes of the card slows tokens down, and
  // 26 views on the processor take far longer than that.
  EXPECT_EQ(latency.devices.at(0).kind, "cpu");
  EXPECT_EQ(request.devices.at(0).kind, "cuda");
  EXPECT_LT(latency.predicted.decode_step_s, request.predicted.decode_step_s);
  EXPECT_LT(request.predicted.request_s, latency.predicted.request_s);
  for (const Plan& plan : {latency, request}) {
    const PlanTimes& times = plan.predicted;
    EXPECT_NEAR(times.request_s, times.image_s + times.prefill_s + 128 * times.decode_step_s,
                1e-9 * times.request_s);
    double sum = 0;
    for (const PlannedDevice& device : plan.devices) sum += device.request_s + device.request_hop_s;
    // Chunks overlap a little in the prediction; the ids go back in it.
    EXPECT_NEAR(times.request_s, sum, 0.1 * sum);
    if (plan.objective != "request") continue;
    EXPECT_NEAR(plan.value_s, sum, 1e-12 * sum);
  }
  // A long answer is worth another token per second, whatever the picture takes.
  workload.answer_tokens = 4096;
  EXPECT_EQ(DeviceMapPlanner::Plan(footprint, SmallGpuAndCpu(), workload).devices.at(0).kind,
            "cpu");
}

/// One device, so that the whole is nothing but the sum of the three parts.
TEST(Planner, TheTimeOfARequestByHand) {
  const ModelFootprint footprint(Shipped(Kind::kVl7b));
  Workload workload = TextWorkload(2048, 1);
  workload.images = 2;
  workload.answer_tokens = 100;
  workload.objective = Objective::kRequest;
  const Plan plan = DeviceMapPlanner::Plan(footprint, Alike(1, int64_t{40} << 30), workload);
  // 14.717 GB of weights and 0.268 GB of keys and values a token; 2048 rows of 13.96 GFLOP, of
  // which all are pictures' or text's, 1.208 GFLOP of adapters for a picture's, 4 * 4096 * n/2 for
  // attention in each of 32 layers; 0.941 TFLOP a picture.
  const double step = 14.985e9 / 1.555e12;
  const double prompt = (2048 * 13.959e9 + 2048 * 1.208e9 + 32 * 2.0 * 2048 * 2048 * 4096) / 312e12;
  const double pictures = 2 * 0.941e12 / 312e12;
  EXPECT_NEAR(plan.value_s, 100 * step + prompt + pictures, 2e-3 * plan.value_s);
  EXPECT_NEAR(plan.predicted.request_s, plan.value_s, 1e-12 * plan.value_s);
}

std::vector<std::string> ArgumentsOf(const std::vector<PlanAlternative>& alternatives) {
  std::vector<std::string> all;
  for (const PlanAlternative& alternative : alternatives) {
    all.insert(all.end(), alternative.arguments.begin(), alternative.arguments.end());
  }
  return all;
}

TEST(Planner, DevicesThatAMapDoesNotUseChangeNothing) {
  const ModelFootprint footprint(Shipped(Kind::kVl7b));
  const Workload workload = TextWorkload(2048, 8);
  const DeviceMap map = {{{"a/cuda:0", 0, 32}}};
  Cluster cluster = Alike(1, int64_t{19} << 30);
  const Plan alone = DeviceMapPlanner::Measure(footprint, cluster, workload, map);
  ClusterDevice cpu = cluster.devices[0];
  cpu.name = cpu.kind = "cpu";
  cluster.devices.push_back(cpu);
  cpu.node = 1;
  cluster.nodes.push_back({"b", cluster.nodes[0].link});
  cluster.devices.push_back(cpu);
  const Plan beside = DeviceMapPlanner::Measure(footprint, cluster, workload, map);
  EXPECT_EQ(beside.predicted.tokens_per_s, alone.predicted.tokens_per_s);
  EXPECT_EQ(beside.devices[0].bytes.total(), alone.devices[0].bytes.total());
  EXPECT_EQ(beside.workload.step_sequences, 8);
}

TEST(Planner, WhatIsQuantisedAlreadyIsNotOfferedInFewerBits) {
  ModelConfig config = Shipped(Kind::kVl7b);
  config.quantization = {Quantization::Method::kGptq, 4, 128};
  const ModelFootprint footprint(config);
  const Workload workload = TextWorkload(65536, 1);
  Cluster cluster = Alike(1, int64_t{80} << 30);
  // A little too small: without the output matrix in 16 bit it would do.
  cluster.devices[0].budget =
      DeviceMapPlanner::Plan(footprint, cluster, workload).devices[0].bytes.total() - 100000;
  PlanQuestion question = QuestionOf(footprint, cluster, workload);
  EXPECT_THAT(ArgumentsOf(FindAlternatives(question)), Contains("--weights"));
  question.can_quantise = false;
  question.can_pack = false;
  const std::vector<std::string> arguments = ArgumentsOf(FindAlternatives(question));
  EXPECT_THAT(arguments, Contains("--context"));
  EXPECT_THAT(arguments, Not(Contains("--weights")));
}

TEST(Planner, Bf12IsOfferedFirstAndOnlyWhereItCanBeMade) {
  const ModelFootprint footprint(Shipped(Kind::kVl7b));
  Cluster cluster = Alike(1, int64_t{80} << 30);
  const Workload workload = TextWorkload(4096, 1);
  cluster.devices[0].budget =
      DeviceMapPlanner::Plan(footprint, cluster, workload).devices[0].bytes.total() - 100000;
  PlanQuestion question = QuestionOf(footprint, cluster, workload);
  const std::vector<PlanAlternative> offered = FindAlternatives(question);
  ASSERT_FALSE(offered.empty());
  EXPECT_THAT(offered.front().arguments, ElementsAre("--weights", "bf12"));
  question.can_pack = false;
  const std::vector<std::string> without = ArgumentsOf(FindAlternatives(question));
  EXPECT_THAT(without, Contains("int8"));
  EXPECT_THAT(without, Not(Contains("bf12")));
  // Whoever has it already is not offered it, and neither is 16 bits.
  question.can_pack = true;
  question.workload.weights = WeightType::kBf12;
  question.cluster.devices[0].budget =
      DeviceMapPlanner::Plan(footprint, cluster, question.workload).devices[0].bytes.total() -
      100000;
  const std::vector<std::string> fewer = ArgumentsOf(FindAlternatives(question));
  EXPECT_THAT(fewer, Contains("int8"));
  EXPECT_THAT(fewer, Not(Contains(AnyOf("bf12", "bf16", "fp16"))));
}

TEST(Planner, AFixedOrderIsNotOfferedToChange) {
  const ModelFootprint footprint(Shipped(Kind::kVl7b));
  Cluster cluster = Alike(2, int64_t{24} << 30);
  cluster.devices[0].budget = int64_t{1800} << 20;  // not enough for what must be on the first
  Workload workload = TextWorkload(2048, 1);
  PlanQuestion question = QuestionOf(footprint, cluster, workload);
  question.rules = {.given_order = true, .use_all = true};
  ASSERT_FALSE(DeviceMapPlanner::Plan(footprint, cluster, workload, question.rules).fits);
  EXPECT_THAT(ArgumentsOf(FindAlternatives(question)), Contains("--order"));
  question.fixed_order = true;
  EXPECT_THAT(ArgumentsOf(FindAlternatives(question)), Not(Contains("--order")));
}

TEST(Planner, NoMoreDevicesAreOfferedThanTheModelHasParts) {
  const ModelFootprint footprint(SmallModel(2));
  PlanQuestion question = QuestionOf(footprint, Alike(1, int64_t{10} << 20), TextWorkload(1024, 1));
  question.rules.use_all = true;
  EXPECT_THAT(FindAlternatives(question), SizeIs(0));
}

TEST(Planner, SeveralChangesAreOfferedBesideABiggerMachine) {
  const ModelFootprint footprint(Shipped(Kind::k25_7b));
  Workload workload = TextWorkload(17408, 1);
  workload.images = 1;
  workload.picture = {3360, 2240, 4, 6, 10101};
  PlanQuestion question = QuestionOf(footprint, Alike(1, int64_t{12} << 30), workload);
  question.picture = [workload](int64_t, int64_t) {
    PictureShape small = workload.picture;
    small.rows = 400;
    return small;
  };
  const std::vector<PlanAlternative> alternatives = FindAlternatives(question);
  ASSERT_THAT(alternatives, Not(SizeIs(0)));
  const std::vector<std::string> arguments = ArgumentsOf(alternatives);
  EXPECT_THAT(arguments, Contains("--extra-devices"));
  EXPECT_THAT(arguments, Contains("--weights"));
}

}  // namespace
}  // namespace xcomposer
