// What users of the published Python code met with hand-made device maps, as told in its issues.
#include <map>

#include "gmock/gmock.h"
#include "nlohmann/json.hpp"
#include "placement/device_map_json.h"
#include "placement/planner.h"
#include "worlds.h"
#include "xcomposer/error.h"

namespace xcomposer {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::SizeIs;

/// The published auto_configure_device_map: layers are counted off, 38 / GPUs on each.
std::map<std::string, int> PublishedMap(int gpus, bool tiled) {
  std::map<std::string, int> map = {{"vit", 0},
                                    {"vision_proj", 0},
                                    {"model.tok_embeddings", 0},
                                    {"model.norm", gpus - 1},
                                    {"output", gpus - 1}};
  if (tiled) map["plora_glb_GN"] = map["plora_sub_GN"] = 0;
  double used = 3;
  int gpu = 0;
  for (int layer = 0; layer < 32; ++layer) {
    if (used >= 38.0 / gpus) {
      ++gpu;
      used = 0;
    }
    map["model.layers." + std::to_string(layer)] = gpu;
    ++used;
  }
  return map;
}

std::string Text(const std::map<std::string, int>& map) { return nlohmann::json(map).dump(); }

std::string PlanError(const std::string& map, Kind kind) {
  try {
    FromHuggingFaceJson(map, Shipped(kind));
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kPlan);
    return error.what();
  }
  ADD_FAILURE() << "the map was accepted";
  return "";
}

std::vector<int64_t> Layers(const DeviceMap& map) {
  std::vector<int64_t> layers;
  for (const StagePlace& stage : map.stages) layers.push_back(stage.end_layer - stage.first_layer);
  return layers;
}

// #258, #322: example_chat on four RTX 3090.
TEST(MapIssues, ThePublishedMapForFourGpusIsReadAndFits) {
  const ModelConfig config = Shipped(Kind::k2_7b);
  const DeviceMap map = FromHuggingFaceJson(Text(PublishedMap(4, false)), config);
  EXPECT_THAT(Layers(map), ElementsAre(7, 10, 10, 5));
  EXPECT_THAT(Layers(FromHuggingFaceJson(Text(PublishedMap(2, false)), config)),
              ElementsAre(16, 16));
  EXPECT_THAT(Layers(FromHuggingFaceJson(Text(PublishedMap(8, false)), config)),
              ElementsAre(2, 5, 5, 5, 5, 5, 5, 0));
  Workload workload = TextWorkload(2048, 1);
  workload.images = 1;
  workload.picture = {224, 224, 1, 1, 256};
  const Plan plan =
      DeviceMapPlanner::Measure(ModelFootprint(config), Alike(4, int64_t{23} << 30), workload, map);
  EXPECT_TRUE(plan.fits);
}

// #265: the map of 2.0 for a 4khd checkpoint.
TEST(MapIssues, SeparatorsThatAreForgottenAreNamed) {
  EXPECT_THAT(
      PlanError(Text(PublishedMap(2, false)), Kind::k4khd7b),
      AllOf(HasSubstr("plora_glb_GN"), HasSubstr("plora_sub_GN"), Not(HasSubstr("vision_proj"))));
  auto on_last = PublishedMap(2, true);
  on_last["plora_glb_GN"] = on_last["plora_sub_GN"] = 1;
  EXPECT_THAT(PlanError(Text(on_last), Kind::k4khd7b),
              AllOf(HasSubstr("plora_glb_GN (cuda:1)"), HasSubstr("first device")));
}

// #274: tensors on cuda:2 and cuda:0 at the convolution.
TEST(MapIssues, VisionPartsApartAreNamed) {
  auto map = PublishedMap(3, true);
  map["vit"] = 2;
  EXPECT_THAT(PlanError(Text(map), Kind::k4khd7b),
              AllOf(HasSubstr("vit (cuda:2)"), HasSubstr("model.tok_embeddings (cuda:0)")));
  map["vision_proj"] = 2;
  map.erase("model.layers.9");
  map["model.layers.30"] = 0;
  // Everything that is wrong is named at once, what is missing first.
  EXPECT_THAT(PlanError(Text(map), Kind::k4khd7b), HasSubstr("model.layers.9"));
  map["model.layers.9"] = 0;
  EXPECT_THAT(PlanError(Text(map), Kind::k4khd7b),
              AllOf(HasSubstr("vit"), HasSubstr("vision_proj"),
                    HasSubstr("returns to cuda:0 at model.layers.30")));
}

// #189: vision parts on GPU 1, embeddings on GPU 0.
TEST(MapIssues, VisionAwayFromEmbeddingsIsNamed) {
  auto map = PublishedMap(2, false);
  map["vit"] = map["vision_proj"] = 1;
  EXPECT_THAT(PlanError(Text(map), Kind::kVl7b),
              AllOf(HasSubstr("vit (cuda:1)"), HasSubstr("vision_proj (cuda:1)")));
}

// #364: 2.5 on four GPUs runs out of memory on GPU 0: the pictures are there.
TEST(MapIssues, TheFirstGpuRunsOutOfMemoryByItsPictures) {
  const ModelConfig config = Shipped(Kind::k25_7b);
  const DeviceMap map = FromHuggingFaceJson(Text(PublishedMap(4, true)), config);
  Workload workload = TextWorkload(16384, 1);
  workload.images = 6;
  workload.picture = {3360, 2240, 4, 6, 10101};
  const ModelFootprint footprint(config);
  const Cluster cluster = Alike(4, 7850000000);
  const Plan plan = DeviceMapPlanner::Measure(footprint, cluster, workload, map);
  ASSERT_FALSE(plan.fits);
  EXPECT_EQ(plan.shortages.front().device, "a/cuda:0");
  EXPECT_GT(plan.shortages.front().by_cause.vision, int64_t{1} << 30);
  // The planner puts fewer layers beside them.
  const Plan better = DeviceMapPlanner::Plan(footprint, cluster, workload);
  EXPECT_TRUE(better.fits);
  EXPECT_LT(LayersPerStage(better).front(), 7);
}

TEST(MapIssues, AcceleratesFinerKeysAreJoinedOrNamed) {
  auto map = nlohmann::json(PublishedMap(2, false));
  map.erase("vit");
  map["vit.vision_tower"] = 0;
  map.erase("model.layers.3");
  map["model.layers.3.attention"] = 0;
  map["model.layers.3.feed_forward"] = 0;
  EXPECT_THAT(Layers(FromHuggingFaceJson(map.dump(), Shipped(Kind::kVl7b))), ElementsAre(16, 16));
  map["model.layers.3.feed_forward"] = 1;
  EXPECT_THAT(PlanError(map.dump(), Kind::kVl7b),
              AllOf(HasSubstr("splits model.layers.3"), HasSubstr("cuda:0, cuda:1")));
}

TEST(MapIssues, HeadApartFromItsNormIsNamed) {
  auto map = PublishedMap(2, false);
  map["model.norm"] = 0;
  EXPECT_THAT(PlanError(Text(map), Kind::kVl7b), HasSubstr("separates model.norm (cuda:0)"));
  map["output"] = 0;
  EXPECT_THAT(PlanError(Text(map), Kind::kVl7b), HasSubstr("output on cuda:0"));
}

TEST(MapIssues, DevicesOfNodesRoundTrip) {
  const ModelConfig config = Shipped(Kind::kVl7b);
  const DeviceMap map = {{{"a/cuda:0", 0, 20}, {"b/cuda:1", 20, 32}}};
  const std::string text = ToHuggingFaceJson(map, config);
  EXPECT_THAT(text,
              AllOf(HasSubstr("\"vit\": \"a:cuda:0\""), HasSubstr("\"output\": \"b:cuda:1\"")));
  EXPECT_EQ(FromHuggingFaceJson(text, config), map);
  const DeviceMap numbered = FromHuggingFaceJson(R"({"": "a:0"})", config);
  EXPECT_EQ(numbered.stages[0].device, "a/cuda:0");
  const DeviceMap named = FromHuggingFaceJson(R"({"": "gpu-left"})", config, {"gpu-left"});
  EXPECT_EQ(named.stages[0].device, "gpu-left");
  EXPECT_THROW(FromHuggingFaceJson(R"({"": "a:tpu:0"})", config), Error);
  EXPECT_THROW(FromHuggingFaceJson(R"({"": 99999})", config), Error);
}

TEST(MapIssues, APlanRoundTripsThroughItsOwnMap) {
  const ModelConfig config = Shipped(Kind::k25_7b);
  const ModelFootprint footprint(config);
  Cluster cluster = Alike(3, int64_t{16} << 30);
  cluster.nodes.push_back({"b", cluster.nodes[0].link});
  cluster.devices[2].node = 1;
  const Workload workload = TextWorkload(4096, 4);
  const Plan plan = DeviceMapPlanner::Plan(footprint, cluster, workload);
  ASSERT_TRUE(plan.fits);
  const DeviceMap map = FromHuggingFaceJson(plan.device_map, config);
  const Plan measured = DeviceMapPlanner::Measure(footprint, cluster, workload, map);
  EXPECT_TRUE(measured.fits);
  EXPECT_EQ(measured.value_s, plan.value_s);
  ASSERT_THAT(measured.devices, SizeIs(plan.devices.size()));
  for (size_t i = 0; i < plan.devices.size(); ++i) {
    EXPECT_EQ(measured.devices[i].bytes.total(), plan.devices[i].bytes.total());
  }
}

TEST(MapIssues, DevicesWithNamesOfTheirOwnRoundTrip) {
  const ModelConfig config = Shipped(Kind::k25_7b);
  const ModelFootprint footprint(config);
  Cluster cluster = Alike(2, int64_t{16} << 30);
  cluster.devices[0].name = "gpu0";
  cluster.devices[1].name = "left.gpu";
  const Workload workload = TextWorkload(4096, 1);
  const Plan plan = DeviceMapPlanner::Plan(footprint, cluster, workload);
  ASSERT_THAT(plan.devices, SizeIs(2));
  const DeviceMap map = FromHuggingFaceJson(plan.device_map, config, {"gpu0", "left.gpu"});
  const Plan measured = DeviceMapPlanner::Measure(footprint, cluster, workload, map);
  EXPECT_EQ(measured.device_map, plan.device_map);
  EXPECT_EQ(measured.value_s, plan.value_s);
}

TEST(MapIssues, TheDevicesThatAreThereAreNamed) {
  const ModelFootprint footprint(Shipped(Kind::kVl7b));
  try {
    DeviceMapPlanner::Measure(footprint, Alike(2, int64_t{40} << 30), TextWorkload(1024, 1),
                              {{{"cuda:7", 0, 32}}});
    ADD_FAILURE() << "the map was accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kDevice);
    EXPECT_THAT(error.what(), AllOf(HasSubstr("cuda:7"), HasSubstr("a/cuda:0, a/cuda:1")));
  }
}

TEST(MapIssues, TheKeyOfAllModulesIsShown) {
  EXPECT_THAT(PlanError(R"({"": null})", Kind::kVl7b), HasSubstr(R"("")"));
}

TEST(MapIssues, AMapOfOtherDevicesIsRefused) {
  const ModelFootprint footprint(Shipped(Kind::kVl7b));
  const auto measure = [&](const DeviceMap& map) {
    DeviceMapPlanner::Measure(footprint, Alike(2, int64_t{40} << 30), TextWorkload(1024, 1), map);
  };
  EXPECT_THROW(measure({{{"cuda:7", 0, 32}}}), Error);
  EXPECT_THROW(measure({{{"cuda:0", 0, 12}, {"cuda:0", 12, 32}}}), Error);
}

}  // namespace
}  // namespace xcomposer
