// The engine over the small checkpoint with its weights in every type.
#include <gtest/gtest.h>

#include "api/demo_model.h"
#include "xcomposer/engine.h"

namespace xcomposer {
namespace {

using testing_support::ExpectError;
using testing_support::IdRequest;
using testing_support::kDemo;
using testing_support::LoadDemo;

TEST(EngineWeights, TakeWhatIsPlannedInEveryType) {
  for (const WeightPrecision weights :
       {WeightPrecision::kAsStored, WeightPrecision::kInt8, WeightPrecision::kInt4}) {
    for (const StorageType dtype : {StorageType::kAuto, StorageType::kFloat32,
                                    StorageType::kFloat16, StorageType::kBFloat16}) {
      EngineOptions options;
      options.model = kDemo;
      options.weights = weights;
      options.dtype = dtype;
      const Engine engine = Engine::Load(options);
      const StagePlacement stage = engine.placement().stages.front();
      EXPECT_EQ(stage.planned.weights, stage.weights)
          << static_cast<int>(weights) << " " << static_cast<int>(dtype);
    }
  }
}

TEST(EngineWeights, Bf12TakesNoMoreThanIsPlannedAndAnswersAlike) {
  EngineOptions options;
  options.model = kDemo;
  const Engine stored = Engine::Load(options);
  options.weights = WeightPrecision::kBf12;
  for (const StorageType dtype : {StorageType::kAuto, StorageType::kBFloat16}) {
    options.dtype = dtype;
    Engine packed = Engine::Load(options);
    const StagePlacement stage = packed.placement().stages.front();
    EXPECT_LE(stage.weights, stage.planned.weights);
    EXPECT_GT(stage.weights, stage.planned.weights - stage.planned.weights / 100);
    EXPECT_LT(stage.weights, stored.placement().stages.front().weights);
    EXPECT_EQ(packed.info().quantization, "none");
    EXPECT_EQ(packed.Generate(IdRequest(6)).output_ids,
              LoadDemo().Generate(IdRequest(6)).output_ids);
  }
  for (const StorageType dtype : {StorageType::kFloat16, StorageType::kFloat32}) {
    options.dtype = dtype;
    ExpectError(ErrorKind::kUsage, "bf12 packs bfloat16 only", [&] { Engine::Load(options); });
  }
}

}  // namespace
}  // namespace xcomposer
