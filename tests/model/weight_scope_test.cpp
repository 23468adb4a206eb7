#include "model/weight_scope.h"

#include <algorithm>

#include "gmock/gmock.h"
#include "model/random_weights.h"
#include "xcomposer/error.h"

namespace xcomposer {
namespace {

using testing::HasSubstr;
using Method = Quantization::Method;

TEST(OwnLinear, IsTakenInPanels) {
  const Quantization stored{Method::kOwn, 4, 64, 8, -1};
  RandomWeights weights(3, stored);
  const ops::LinearWeight linear = weights.TakeLinear("layer.wo", 48, 200);
  EXPECT_EQ(linear.packing, ops::WeightPacking::kInt4);
  EXPECT_EQ(linear.group, 64);
  EXPECT_EQ(linear.data.sizes(), at::IntArrayRef({3, 25, 16}));
  EXPECT_EQ(linear.zeros.sizes(), at::IntArrayRef({3, 4, 2}));
  EXPECT_EQ(linear.scales.sizes(), at::IntArrayRef({3, 4, 16}));
  EXPECT_EQ(linear.data.scalar_type(), at::kInt);
  EXPECT_EQ(linear.scales.scalar_type(), at::kHalf);
  EXPECT_FALSE(linear.bias.has_value());
  const ops::LinearWeight head = weights.TakeHead("output", 32, 200);
  EXPECT_EQ(head.packing, ops::WeightPacking::kInt8);
  EXPECT_EQ(head.group, 200);
  EXPECT_EQ(head.data.sizes(), at::IntArrayRef({2, 50, 16}));
  EXPECT_EQ(head.zeros.sizes(), at::IntArrayRef({2, 1, 4}));
  EXPECT_EQ(head.scales.sizes(), at::IntArrayRef({2, 1, 16}));
  EXPECT_EQ(weights.bytes(), linear.nbytes() + head.nbytes());
  EXPECT_NO_THROW(weights.RequireTaken({"layer.wo.codes", "layer.wo.zeros", "layer.wo.scales",
                                        "output.codes", "output.zeros", "output.scales"}));
  EXPECT_THROW(weights.TakeLinear("layer.wo", 48, 200), Error);
}

// Numbers of one size whatever the bits, around zero.
TEST(OwnLinear, IsDrawnWithZerosInTheMiddle) {
  RandomWeights weights(3, {Method::kOwn, 4, 32, 8, 128});
  const ops::LinearWeight four = weights.TakeLinear("layer.wo", 16, 128);
  const ops::LinearWeight eight = weights.TakeHead("output", 16, 128);
  for (int64_t i = 0; i < four.zeros.numel(); ++i) {
    EXPECT_EQ(four.zeros.const_data_ptr<int32_t>()[i], static_cast<int32_t>(0x88888888u));
  }
  for (int64_t i = 0; i < eight.zeros.numel(); ++i) {
    EXPECT_EQ(eight.zeros.const_data_ptr<int32_t>()[i], static_cast<int32_t>(0x80808080u));
  }
  const auto largest = [](const ops::LinearWeight& weight, float codes) {
    float found = 0;
    for (int64_t i = 0; i < weight.scales.numel(); ++i) {
      const float scale = weight.scales.const_data_ptr<at::Half>()[i];
      EXPECT_GT(scale, 0);
      found = std::max(found, scale * codes);
    }
    return found;
  };
  EXPECT_NEAR(largest(four, 8) / largest(eight, 128), 1, 0.25);
}

TEST(OwnLinear, RefusesWhatDoesNotFillPanelsAndBlocks) {
  const auto refused = [](const Quantization& stored, int64_t outputs, int64_t inputs,
                          const std::string& part) {
    MetaWeights weights(stored);
    for (const bool head : {false, true}) {
      try {
        head ? weights.TakeHead("output", outputs, inputs)
             : weights.TakeLinear("layer.wo", outputs, inputs);
        ADD_FAILURE() << outputs << " x " << inputs;
      } catch (const Error& error) {
        EXPECT_EQ(error.kind(), ErrorKind::kCheckpoint);
        EXPECT_EQ(error.where().at("tensor"), head ? "output" : "layer.wo");
        EXPECT_THAT(error.what(), HasSubstr(part));
      }
    }
  };
  const Quantization int4{Method::kOwn, 4, 32, 4, 32};
  refused(int4, 40, 64, "has 40 outputs and 64 inputs in groups of 32");
  refused(int4, 48, 68, "has 48 outputs and 68 inputs");
  refused({Method::kOwn, 4, 104, 4, 104}, 48, 112, "in groups of a multiple of 32 inputs");
  refused({Method::kOwn, 8, 96, 8, 96}, 48, 128, "in groups of a multiple of 128 inputs");
  MetaWeights rows({Method::kOwn, 8, 96, 8, 96});
  EXPECT_EQ(rows.TakeLinear("layer.wo", 48, 96).scales.size(1), 1);
}

}  // namespace
}  // namespace xcomposer
