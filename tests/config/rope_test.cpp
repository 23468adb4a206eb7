#include "config/rope.h"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>

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

// The whole table of the published 7B checkpoints (base 1e6, 128 dimensions), worked out apart: the
// power in 50 decimal digits, rounded to float32, then its float32 reciprocal.
TEST(InverseFrequencies, KnownValues) {
  constexpr float kExpected[] = {
      0x1p0f,          0x1.9c975ap-1f,  0x1.4c7bcp-1f,   0x1.0beddep-1f,  0x1.afd136p-2f,
      0x1.5bf9fep-2f,  0x1.186a08p-2f,  0x1.c3f06ap-3f,  0x1.6c310ep-3f,  0x1.257b22p-3f,
      0x1.d8ffacp-4f,  0x1.7d298cp-4f,  0x1.33281ap-4f,  0x1.ef0a26p-5f,  0x1.8eec7ep-5f,
      0x1.41783ap-5f,  0x1.030dc6p-5f,  0x1.a1835p-6f,   0x1.507316p-6f,  0x1.0f201p-6f,
      0x1.b4f7e4p-7f,  0x1.6020a4p-7f,  0x1.1bc25ap-7f,  0x1.c9548cp-8f,  0x1.708938p-8f,
      0x1.28fb5cp-8f,  0x1.dea41cp-9f,  0x1.81b58ap-9f,  0x1.36d21ap-9f,  0x1.f4f1ep-10f,
      0x1.93aeb8p-10f, 0x1.454deep-10f, 0x1.0624dep-10f, 0x1.a67e5p-11f,  0x1.547688p-11f,
      0x1.125c04p-11f, 0x1.ba2e4ap-12f, 0x1.6453f4p-12f, 0x1.1f24e4p-12f, 0x1.cec924p-13f,
      0x1.74eea6p-13f, 0x1.2c8648p-13f, 0x1.e459c4p-14f, 0x1.864f6ap-14f, 0x1.3a8748p-14f,
      0x1.faeba8p-15f, 0x1.987f7cp-15f, 0x1.492f56p-15f, 0x1.094564p-15f, 0x1.ab8882p-16f,
      0x1.58863ap-16f, 0x1.15a1dap-16f, 0x1.bf749ep-17f, 0x1.68941cp-17f, 0x1.2291c6p-17f,
      0x1.d44e64p-18f, 0x1.796182p-18f, 0x1.301c04p-18f, 0x1.ea20ep-19f,  0x1.8af756p-19f,
      0x1.3e47c8p-19f, 0x1.007bd8p-19f, 0x1.9d5ef2p-20f, 0x1.4d1c98p-20f,
  };
  const std::vector<float> inverse = InverseFrequencies(1e6, 128);
  ASSERT_EQ(inverse.size(), std::size(kExpected));
  for (size_t j = 0; j < inverse.size(); ++j) EXPECT_EQ(inverse[j], kExpected[j]) << j;
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
