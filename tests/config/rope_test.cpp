#include "config/rope.h"

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

}  // namespace
}  // namespace xcomposer
