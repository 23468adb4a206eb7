#include "pipeline/device_weights.h"

#include <ATen/Functions.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>

#include "lazy_device.h"
#include "support/given_weights.h"
#include "xcomposer/error.h"

namespace xcomposer {
namespace {

/// Numbers below 30000 that float16 keeps, rounds, or loses because they are small.
at::Tensor Numbers(at::IntArrayRef shape, at::ScalarType type) {
  const int64_t count = c10::multiply_integers(shape);
  const at::Tensor steps = at::arange(count, at::kFloat).mul(2.0f).sub(static_cast<float>(count));
  const at::Tensor part = steps.div(static_cast<float>(count + 1));  // of 1
  return at::mul(at::pow(part, 3), 30000.0f).view(shape).to(type);
}

class DeviceWeightsTest : public testing::Test {
 protected:
  /// A device whose memory is the host's.
  std::unique_ptr<DeviceWeights> Upload(at::ScalarType type, size_t buffer_bytes) {
    return std::make_unique<DeviceWeights>(
        host_, at::TensorOptions().dtype(type),
        std::make_unique<StagedUpload>(std::make_unique<LazyDevice>(6, buffer_bytes), 3));
  }

  GivenWeights host_;
};

TEST_F(DeviceWeightsTest, EveryTypeArrivesAsLibTorchConvertsIt) {
  const at::ScalarType types[] = {at::kFloat, at::kBFloat16, at::kHalf};
  int number = 0;
  for (const at::ScalarType from : types) {
    for (const at::ScalarType to : {at::kHalf, at::kBFloat16}) {
      const auto weights = Upload(to, 1 << 20);  // several pieces
      std::map<std::string, at::Tensor> arrived;
      for (const std::vector<int64_t>& shape :
           {std::vector<int64_t>{1}, {7, 3}, {31}, {700, 3, 1000}, {0}}) {
        const std::string name = "w" + std::to_string(number++);
        host_.tensors[name] = Numbers(shape, from);
        arrived[name] = weights->Take(name, shape);
      }
      weights->Finish();
      for (const auto& [name, tensor] : arrived) {
        EXPECT_EQ(tensor.scalar_type(), to);
        EXPECT_TRUE(tensor.equal(host_.tensors[name].to(to))) << from << " " << to << " " << name;
      }
    }
  }
}

TEST_F(DeviceWeightsTest, WhatIsWantedAsFloatIsThereAtOnce) {
  const auto weights = Upload(at::kHalf, 1024);
  host_.tensors["large"] = Numbers({100000}, at::kBFloat16);
  host_.tensors["small"] = Numbers({1, 300}, at::kBFloat16);
  const at::Tensor large = weights->Take("large", {100000});
  const at::Tensor small = weights->TakeFloat("small", {1, 300});
  EXPECT_TRUE(small.equal(host_.tensors["small"].to(at::kHalf).to(at::kFloat)));
  weights->Finish();
  EXPECT_TRUE(large.equal(host_.tensors["large"].to(at::kHalf)));
  EXPECT_EQ(weights->bytes(), 2 * (100000 + 300));
}

TEST_F(DeviceWeightsTest, StackedTensorsLieBelowEachOther) {
  const auto weights = Upload(at::kHalf, 64);
  host_.tensors["q"] = Numbers({5, 3}, at::kBFloat16);
  host_.tensors["k"] = Numbers({5, 3}, at::kHalf).mul(-1);
  host_.tensors["v"] = Numbers({5, 3}, at::kFloat).mul(0.5);
  EXPECT_TRUE(weights->stacks());
  const at::Tensor all = weights->TakeStacked({"q", "k", "v"}, {5, 3});
  weights->Finish();
  EXPECT_TRUE(all.equal(at::cat(
      {host_.tensors["q"].to(at::kHalf), host_.tensors["k"], host_.tensors["v"].to(at::kHalf)})));
  EXPECT_EQ(weights->bytes(), 2 * 3 * 15);
  EXPECT_THROW(weights->Take("k", {5, 3}), Error);  // a second time
  EXPECT_THROW(weights->TakeStacked({"w"}, {3, 5}), std::exception);
  EXPECT_FALSE(host_.stacks());
  GivenWeights mapped;
  mapped.tensors = host_.tensors;
  EXPECT_EQ(mapped.TakeStacked({"q"}, {5, 3}).sizes(), (std::vector<int64_t>{5, 3}));
  EXPECT_THROW(mapped.TakeStacked({"k", "v"}, {3, 5}), Error);
}

TEST_F(DeviceWeightsTest, PartsOfOneMatrixLieBesideEachOther) {
  for (const size_t buffer_bytes : {64, 1 << 20}) {  // pieces that end within a row; one piece
    const auto weights = Upload(at::kHalf, buffer_bytes);
    const std::string end = std::to_string(buffer_bytes);
    host_.tensors["w" + end] = Numbers({19, 40}, at::kBFloat16);
    host_.tensors["b" + end] = Numbers({19, 24}, at::kHalf);
    const at::Tensor both = weights->Allocate({19, 64});
    weights->TakeInto(both.narrow(1, 24, 40), "w" + end);
    weights->TakeInto(both.narrow(1, 0, 24), "b" + end);
    weights->Finish();
    EXPECT_TRUE(both.equal(
        at::cat({host_.tensors["b" + end], host_.tensors["w" + end].to(at::kHalf)}, 1)));
    EXPECT_EQ(weights->bytes(), 2 * 19 * 64);
    EXPECT_THROW(weights->TakeInto(both.narrow(1, 0, 24), "b" + end), Error);  // a second time
    host_.tensors["c" + end] = Numbers({19, 23}, at::kHalf);
    EXPECT_THROW(weights->TakeInto(both.narrow(1, 0, 24), "c" + end), Error);  // another shape
  }
  EXPECT_THROW(host_.Allocate({2, 2}), Error);
}

TEST_F(DeviceWeightsTest, WhatBecomesInfiniteIsRefusedByName) {
  const auto weights = Upload(at::kHalf, 64);
  host_.tensors["fine"] = at::full({100}, 3.0f, at::kBFloat16);
  host_.tensors["large"] = at::full({100}, 1e6f, at::kBFloat16);
  const at::Tensor fine = weights->Take("fine", {100});  // copies are on their way to both
  const at::Tensor large = weights->Take("large", {100});
  try {
    weights->Finish();
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kCheckpoint);
    EXPECT_EQ(error.where().at("tensor"), "large");
    EXPECT_NE(std::string(error.what()).find("100 values"), std::string::npos) << error.what();
  }
}

TEST_F(DeviceWeightsTest, WhatBecomesZeroIsTold) {
  const auto weights = Upload(at::kHalf, 64);
  host_.tensors["fine"] = at::full({100}, 3.0f, at::kBFloat16);
  host_.tensors["small"] = at::full({100}, 3.0f, at::kBFloat16);
  host_.tensors["small"].narrow(0, 50, 7).fill_(1e-20f);
  const at::Tensor fine = weights->Take("fine", {100});
  const at::Tensor small = weights->Take("small", {100});
  testing::internal::CaptureStderr();
  weights->Finish();
  const std::string told = testing::internal::GetCapturedStderr();
  EXPECT_NE(told.find("7 of 100 numbers of small"), std::string::npos) << told;
  EXPECT_EQ(told.find("fine"), std::string::npos) << told;
}

TEST_F(DeviceWeightsTest, EachOfManyTensorsHasCountersOfItsOwn) {
  const auto weights = Upload(at::kHalf, 64);
  std::vector<at::Tensor> arrived;
  for (int i = 0; i < 2100; ++i) {
    const std::string name = "w" + std::to_string(i);
    host_.tensors[name] = at::full({3}, i == 2099 ? 1e6f : 1.0f, at::kBFloat16);
    arrived.push_back(weights->Take(name, {3}));
  }
  try {
    weights->Finish();
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.where().at("tensor"), "w2099");
    EXPECT_NE(std::string(error.what()).find("3 values"), std::string::npos) << error.what();
  }
}

TEST_F(DeviceWeightsTest, AnotherShapeOrTypeIsRefused) {
  const auto weights = Upload(at::kHalf, 64);
  host_.tensors["w"] = at::zeros({4, 2}, at::kHalf);
  host_.tensors["ids"] = at::zeros({4}, at::kInt);
  EXPECT_THROW(weights->Take("w", {2, 4}), Error);
  EXPECT_THROW(weights->Take("ids", {4}), Error);
}

}  // namespace
}  // namespace xcomposer
