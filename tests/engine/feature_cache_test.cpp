#include "engine/feature_cache.h"

#include <gtest/gtest.h>

#include <optional>

#include "engine/scheduler_fixture.h"

namespace xcomposer {
namespace {

using testing::StandInExecutor;
using testing::TestPicture;

class FeatureCacheTest : public ::testing::Test {
 protected:
  FeatureCacheTest() : executor_(testing::SmallLimits()) {
    executor_.before_encode = [this](const Picture&) { ++encodings_; };
  }

  /// Takes a picture's features and lets go of them.
  void Use(FeatureCache* cache, int64_t width, uint8_t shade) {
    cache->Get(TestPicture(width, shade), "image0", {}, {});
  }

  StandInExecutor executor_;
  int encodings_ = 0;
};

TEST_F(FeatureCacheTest, EqualPixelsAreEncodedOnce) {
  FeatureCache cache(&executor_, 100);
  Use(&cache, 10, 1);
  Use(&cache, 10, 1);
  EXPECT_EQ(encodings_, 1);
  Use(&cache, 10, 2);
  EXPECT_EQ(encodings_, 2);
  EXPECT_EQ(cache.rows(), 20);
}

TEST_F(FeatureCacheTest, TheLeastRecentlyUsedGoesFirst) {
  FeatureCache cache(&executor_, 25);
  Use(&cache, 10, 1);
  Use(&cache, 10, 2);
  Use(&cache, 10, 1);
  Use(&cache, 10, 3);  // no room for three: 2 goes
  EXPECT_EQ(cache.rows(), 20);
  Use(&cache, 10, 1);
  EXPECT_EQ(encodings_, 3);
  Use(&cache, 10, 2);
  EXPECT_EQ(encodings_, 4);
}

TEST_F(FeatureCacheTest, WhatIsInUseStaysWhateverTheBudget) {
  int64_t alive = -1;
  {
    StandInExecutor executor(testing::SmallLimits());
    executor.features_alive = &alive;
    FeatureCache cache(&executor, 0);
    auto first = std::make_optional(cache.Get(TestPicture(10, 1), "image0", {}, {}));
    const auto again = cache.Get(TestPicture(10, 1), "image1", {}, {});
    EXPECT_EQ(first->encoded().feature, again.encoded().feature);
    const auto second = cache.Get(TestPicture(10, 2), "image2", {}, {});
    EXPECT_EQ(cache.rows(), 20);
    first.reset();
    EXPECT_EQ(cache.rows(), 20);
  }
  EXPECT_EQ(alive, 0);
}

TEST_F(FeatureCacheTest, ATracedPictureIsEncodedAgain) {
  FeatureCache cache(&executor_, 100);
  Use(&cache, 10, 1);
  std::vector<std::string> names;
  TapSink taps;
  taps.wants = [](const std::string& name) { return name == "image0.rgb"; };
  taps.put = [&](Tap&& tap) { names.push_back(tap.name); };
  cache.Get(TestPicture(10, 1), "image0", taps, {});
  EXPECT_EQ(encodings_, 2);
  EXPECT_EQ(names, (std::vector<std::string>{"image0.rgb"}));
  cache.Get(TestPicture(10, 1), "image1", taps, {});
  EXPECT_EQ(encodings_, 2);
}

TEST_F(FeatureCacheTest, OutOfMemoryReleasesWhatNobodyUses) {
  FeatureCache cache(&executor_, 100);
  Use(&cache, 10, 1);
  int attempts = 0;
  executor_.before_encode = [&](const Picture&) {
    if (++attempts == 1) throw Error(ErrorKind::kCapacity, "full");
  };
  Use(&cache, 10, 2);
  EXPECT_EQ(attempts, 2);
  EXPECT_EQ(cache.rows(), 10);
}

TEST_F(FeatureCacheTest, OutOfMemoryWithNothingToReleaseIsReported) {
  FeatureCache cache(&executor_, 100);
  executor_.before_encode = [](const Picture&) { throw Error(ErrorKind::kCapacity, "full"); };
  EXPECT_THROW(Use(&cache, 10, 2), Error);
  EXPECT_EQ(cache.rows(), 0);
}

}  // namespace
}  // namespace xcomposer
