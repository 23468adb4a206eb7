#include "config/rope.h"

#include <cmath>
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

TEST(InverseFrequencies, FollowTheRecipe) {
  for (const double base : {1e6, 1680235.508, 10000.0}) {
    for (const int64_t dim : {int64_t{2}, int64_t{6}, int64_t{64}, int64_t{128}}) {
      const std::vector<float> inverse = InverseFrequencies(base, dim);
      ASSERT_EQ(inverse.size(), static_cast<size_t>(dim / 2));
      for (size_t j = 0; j < inverse.size(); ++j) {
        const auto exponent = static_cast<float>(2.0 * static_cast<double>(j) / double(dim));
        ASSERT_EQ(inverse[j], 1.0f / std::pow(static_cast<float>(base), exponent));
      }
    }
  }
}

// The first and last entries for base 1e6 and 128 dimensions, worked out apart: 1 and
// 1e6^(-126/128).
TEST(InverseFrequencies, KnownValues) {
  const std::vector<float> inverse = InverseFrequencies(1e6, 128);
  EXPECT_EQ(inverse.front(), 1.0f);
  EXPECT_NEAR(inverse.back(), 1.2409378e-6f, 1e-12f);
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
