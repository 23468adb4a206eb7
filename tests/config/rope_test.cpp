#include "config/rope.h"

#include <filesystem>
#include <fstream>

#include "config_texts.h"
#include "gtest/gtest.h"

namespace xcomposer {
namespace {

TEST(RopeBase, MatchesTheCheckValuesOf25) {
  const ModelConfig config = ParseConfig(ShippedConfig(Kind::k25_7b).dump());
  EXPECT_EQ(RopeBase(config, 1), 1e6);
  EXPECT_EQ(RopeBase(config, 24576), 1e6);
  EXPECT_NEAR(RopeBase(config, 24577), 1000082.672, 5e-4);
  EXPECT_NEAR(RopeBase(config, 32768), 1680235.508, 5e-4);
  EXPECT_NEAR(RopeBase(config, 49152), 3052773.675, 5e-4);
}

TEST(RopeBase, StaysWithoutDynamicScaling) {
  const ModelConfig config = ParseConfig(ShippedConfig(Kind::k4khd7b).dump());
  EXPECT_EQ(RopeBase(config, 100000), 1e6);
}

TEST(RopeBase, EqualsWhatTheReferenceRecorded) {
  const std::filesystem::path folder =
      std::filesystem::path(XCOMPOSER_SHARED_DIR) / "data/goldens/2.5-7b-ntk";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << "no goldens in " << folder;
  const ModelConfig config = LoadConfig(folder / "model");
  std::ifstream in(folder / "cases.json");
  int64_t calls = 0;
  for (const auto& json : nlohmann::json::parse(in)) {
    if (json["rope_state"] != "fresh" || !json.contains("rope")) continue;
    for (const auto& call : json["rope"]) {
      EXPECT_DOUBLE_EQ(RopeBase(config, call["kv_len"]), call["base"].get<double>())
          << json["name"] << " at " << call["kv_len"];
      ++calls;
    }
  }
  EXPECT_GT(calls, 50);
}

}  // namespace
}  // namespace xcomposer
