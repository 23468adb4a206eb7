#include "placement/device_map.h"

#include "gmock/gmock.h"
#include "placement/device_map_json.h"
#include "xcomposer/error.h"

namespace xcomposer {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

ModelConfig Model(int64_t layers, bool tiled) {
  ModelConfig config;
  config.layers = layers;
  config.vision.tiled = tiled;
  return config;
}

template <typename Call>
std::string PlanError(Call call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_TRUE(error.kind() == ErrorKind::kPlan || error.kind() == ErrorKind::kDevice);
    return error.what();
  }
  return "";
}

TEST(DeviceMap, EvenBlocksCoverAllLayers) {
  for (const int64_t layers : {1, 2, 3, 7, 32}) {
    for (size_t count = 1; count <= 5; ++count) {
      const DeviceMap map =
          EvenDeviceMap(Model(layers, true), std::vector<std::string>(count, "cpu"));
      ASSERT_EQ(map.stages.size(), count);
      for (const StagePlace& stage : map.stages) {
        const int64_t share = stage.end_layer - stage.first_layer;
        EXPECT_TRUE(share == layers / static_cast<int64_t>(count) ||
                    share == layers / static_cast<int64_t>(count) + 1);
      }
    }
  }
}

TEST(DeviceMap, PartsThatBelongTogetherAreOnTheFirstAndLastStage) {
  const ModelConfig config = Model(2, true);
  const DeviceMap map = EvenDeviceMap(config, {"cuda:1", "cpu"});
  EXPECT_THAT(ModulesOfStage(map, config, 0),
              ElementsAre("vit", "vision_proj", "plora_glb_GN", "plora_sub_GN",
                          "model.tok_embeddings", "model.layers.0"));
  EXPECT_THAT(ModulesOfStage(map, config, 1),
              ElementsAre("model.layers.1", "model.norm", "output"));
}

TEST(DeviceMap, RefusesGapsAndUnknownDevices) {
  const ModelConfig config = Model(4, false);
  EXPECT_THAT(PlanError([&] { EvenDeviceMap(config, {}); }), HasSubstr("no device"));
  EXPECT_THAT(PlanError([&] { EvenDeviceMap(config, {"gpu0"}); }), HasSubstr("gpu0"));
  EXPECT_THAT(PlanError([&] { EvenDeviceMap(config, {"cuda:"}); }), HasSubstr("cuda:"));
  EXPECT_THAT(PlanError([&] {
                CheckDeviceMap({{{"cpu", 0, 2}, {"cpu", 3, 4}}}, config);
              }),
              HasSubstr("contiguous"));
  EXPECT_THAT(PlanError([&] { CheckDeviceMap({{{"cpu", 0, 3}}}, config); }), HasSubstr("has 4"));
}

TEST(HuggingFaceMap, RoundTrips) {
  const ModelConfig config = Model(5, true);
  const DeviceMap map = EvenDeviceMap(config, {"cuda:0", "cuda:3", "cpu"});
  const std::string text = ToHuggingFaceJson(map, config);
  EXPECT_THAT(text, AllOf(HasSubstr("\"model.layers.0\": 0"), HasSubstr("\"output\": \"cpu\"")));
  EXPECT_EQ(FromHuggingFaceJson(text, config), map);
  EXPECT_EQ(FromHuggingFaceJson(R"({"": "cpu"})", config), EvenDeviceMap(config, {"cpu"}));
}

TEST(HuggingFaceMap, NamesWhatIsForgottenOrMisplaced) {
  const ModelConfig config = Model(2, true);
  const auto read = [&](const std::string& text) {
    return PlanError([&] { FromHuggingFaceJson(text, config); });
  };
  EXPECT_THAT(read(R"({"vit": 0, "vision_proj": 0, "model": 0, "output": 0})"),
              AllOf(HasSubstr("plora_glb_GN"), HasSubstr("plora_sub_GN")));
  EXPECT_THAT(read(R"({"": 0, "vit": 1})"), HasSubstr("vit"));
  EXPECT_THAT(read(R"({"": 0, "model.layers.7": 1})"), HasSubstr("model.layers.7"));
  EXPECT_THAT(read(R"({"": 1, "model.layers": 0, "model.layers.1": 1})"), HasSubstr("returns"));
  EXPECT_THAT(read(R"({"": "disk"})"), HasSubstr("disk"));
  EXPECT_THAT(read("[1]"), HasSubstr("JSON object"));
  EXPECT_THAT(read(R"({"": 0, "vit": 0, "vit": 1})"), HasSubstr("\"vit\" twice"));
}

}  // namespace
}  // namespace xcomposer
