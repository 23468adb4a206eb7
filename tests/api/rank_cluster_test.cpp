#include "api/rank_cluster.h"

#include "api/load_plan.h"
#include "api/machine_cluster.h"
#include "config/config_texts.h"
#include "gtest/gtest.h"
#include "placement/cluster_json.h"
#include "placement/planner.h"

namespace xcomposer::api {
namespace {

constexpr int64_t kGiga = int64_t{1} << 30;

/// A rank on the machine `name` with these devices, as OwnDevices would describe it.
Cluster RankOn(const std::string& name, const std::vector<ClusterDevice>& devices) {
  Cluster cluster;
  cluster.nodes.push_back({name, kAssumedNodeLink});
  cluster.default_link = kAssumedNetworkLink;
  cluster.devices = devices;
  return cluster;
}

ClusterDevice Device(const std::string& name, int64_t budget, double bandwidth = 1e11) {
  return {.node = 0,
          .name = name,
          .kind = name.substr(0, name.find(':')),
          .model = "",
          .memory = budget,
          .budget = budget,
          .bandwidth = bandwidth,
          .flops = 1e13};
}

TEST(RankCluster, HasANodePerRankAndADevicePerStage) {
  const std::vector<RankedDevice> devices = {{0, "cuda:0"}, {0, "cuda:1"}, {1, "cuda:0"}};
  const Cluster cluster =
      ClusterOfRun(devices, {RankOn("a", {Device("cuda:0", 10), Device("cuda:1", 20)}),
                             RankOn("b", {Device("cuda:0", 30)})});
  ASSERT_EQ(cluster.devices.size(), 3u);
  EXPECT_EQ(cluster.IdOf(0), "0/cuda:0");
  EXPECT_EQ(cluster.IdOf(2), "1/cuda:0");
  EXPECT_EQ(cluster.devices[1].budget, 20);
  EXPECT_EQ(cluster.devices[2].budget, 30);
  EXPECT_EQ(cluster.LinkBetween(1, 2), kAssumedNetworkLink);
  EXPECT_EQ(cluster.LinkBetween(0, 1), kAssumedNodeLink);
}

TEST(RankCluster, RanksOfOneMachineDivideWhatTheyShare) {
  // Three ranks; the machine's 12 GB are seen by each of the first two, and rank 0 has two stages.
  const std::vector<RankedDevice> devices = {{0, "cpu"},    {0, "cpu"},    {1, "cpu"},
                                             {1, "cuda:0"}, {2, "cuda:0"}, {2, "cpu"}};
  const Cluster cluster = ClusterOfRun(
      devices, {RankOn("a", {Device("cpu", 6 * kGiga), Device("cpu:1", 6 * kGiga)}),
                RankOn("a", {Device("cpu", 12 * kGiga), Device("cuda:0", 8 * kGiga)}),
                RankOn("b", {Device("cuda:0", 8 * kGiga), Device("cpu", 12 * kGiga)})});
  EXPECT_EQ(cluster.devices[0].budget, 4 * kGiga);
  EXPECT_EQ(cluster.devices[1].budget, 4 * kGiga);
  EXPECT_EQ(cluster.devices[2].budget, 4 * kGiga);
  EXPECT_EQ(cluster.devices[3].budget, 8 * kGiga);  // one rank only has this GPU
  EXPECT_EQ(cluster.devices[4].budget, 8 * kGiga);
  EXPECT_EQ(cluster.devices[5].budget, 12 * kGiga);
  EXPECT_EQ(cluster.LinkBetween(0, 2), kAssumedNodeLink);
  EXPECT_EQ(cluster.LinkBetween(0, 4), kAssumedNetworkLink);
  const Cluster gpu = ClusterOfRun(
      {{0, "cuda:0"}, {1, "cuda:0"}},
      {RankOn("a", {Device("cuda:0", 8 * kGiga)}), RankOn("a", {Device("cuda:0", 8 * kGiga)})});
  EXPECT_EQ(gpu.devices[0].budget, 4 * kGiga);
  EXPECT_EQ(gpu.devices[1].budget, 4 * kGiga);
}

TEST(RankCluster, ARankThatDescribesOtherDevicesIsNamed) {
  const std::vector<RankedDevice> devices = {{0, "cpu"}, {1, "cpu"}};
  try {
    ClusterOfRun(devices, {RankOn("a", {Device("cpu", 1)}),
                           RankOn("b", {Device("cpu", 1), Device("cpu:1", 1)})});
    FAIL() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kTransport);
    EXPECT_EQ(error.where().at("rank"), "1");
  }
}

TEST(RankCluster, OwnDevicesSurviveTheWay) {
  const std::vector<RankedDevice> devices = {{0, "cpu"}, {1, "cpu"}, {1, "cpu"}};
  EXPECT_EQ(OwnDevices(devices, 0).devices.size(), 1u);
  const Cluster own = OwnDevices(devices, 1);
  const Cluster read = ParseCluster(ToJson(own));
  EXPECT_EQ(read.nodes.front().name, own.nodes.front().name);
  ASSERT_EQ(read.devices.size(), 2u);
  EXPECT_EQ(read.devices[1].name, "cpu:1");
  EXPECT_EQ(read.devices[1].budget, own.devices[1].budget);
}

ModelConfig Shipped(Kind kind) { return ParseConfig(ShippedConfig(kind).dump()); }

std::vector<int64_t> LayersOf(const DeviceMap& map) {
  std::vector<int64_t> layers;
  for (const StagePlace& stage : map.stages) layers.push_back(stage.end_layer - stage.first_layer);
  return layers;
}

TEST(PlanRun, GivesFastAndLargeDevicesMore) {
  const ModelConfig config = Shipped(Kind::kVl7b);
  const std::vector<RankedDevice> devices = {{0, "cuda:0"}, {1, "cuda:0"}, {2, "cuda:0"}};
  EngineOptions options;
  const auto plan = [&](const std::vector<ClusterDevice>& of_ranks) {
    std::vector<Cluster> ranks;
    for (size_t i = 0; i < of_ranks.size(); ++i) {
      ranks.push_back(RankOn(std::string(1, static_cast<char>('a' + i)), {of_ranks[i]}));
    }
    return LayersOf(
        PlanRun(options, config, {.type = WeightType::kFloat16}, ClusterOfRun(devices, ranks)));
  };
  const std::vector<int64_t> alike = plan(
      {Device("cuda:0", 80 * kGiga), Device("cuda:0", 80 * kGiga), Device("cuda:0", 80 * kGiga)});
  // The last one has the output matrix too.
  EXPECT_GT(alike[1], alike[2]);
  const std::vector<int64_t> unequal =
      plan({Device("cuda:0", 80 * kGiga, 4e11), Device("cuda:0", 80 * kGiga, 1e11),
            Device("cuda:0", 80 * kGiga, 1e11)});
  EXPECT_GT(unequal[0], 2 * unequal[1]);
  const std::vector<int64_t> small = plan(
      {Device("cuda:0", 80 * kGiga), Device("cuda:0", 6 * kGiga), Device("cuda:0", 80 * kGiga)});
  EXPECT_LT(small[1], alike[1]);
  EXPECT_EQ(small[0] + small[1] + small[2], config.layers);
}

TEST(PlanRun, WhatFitsNowhereNamesDeviceAndRank) {
  const std::vector<RankedDevice> devices = {{0, "cpu"}, {1, "cpu"}};
  const Cluster cluster = ClusterOfRun(
      devices, {RankOn("a", {Device("cpu", 4 * kGiga)}), RankOn("b", {Device("cpu", 5 * kGiga)})});
  try {
    PlanRun({}, Shipped(Kind::kVl7b), {.type = WeightType::kFloat16}, cluster);
    FAIL() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kCapacity);
    EXPECT_EQ(error.where().at("device"), error.where().at("rank") + "/cpu") << error.what();
  }
}

TEST(PlanRun, MoreDevicesThanLayersStillGetAStageEach) {
  nlohmann::json json = ShippedConfig(Kind::k2_7b);
  json["hidden_size"] = 128;
  json["intermediate_size"] = 256;
  json["num_hidden_layers"] = 2;
  json["num_attention_heads"] = 2;
  json["num_key_value_heads"] = 1;
  json["vocab_size"] = 512;
  const ModelConfig config = ParseConfig(json.dump());
  std::vector<RankedDevice> devices;
  std::vector<Cluster> ranks;
  for (int rank = 0; rank < 5; ++rank) {
    devices.push_back({rank, "cpu"});
    ranks.push_back(RankOn("m" + std::to_string(rank), {Device("cpu", 8 * kGiga)}));
  }
  const DeviceMap map =
      PlanRun({}, config, {.type = WeightType::kFloat16}, ClusterOfRun(devices, ranks));
  EXPECT_EQ(map.stages.size(), 5u);
  EXPECT_NO_THROW(CheckDeviceMap(map, config));
}

}  // namespace
}  // namespace xcomposer::api
