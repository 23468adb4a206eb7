// Weights on their way to a GPU: pinned buffers, streams and the kernel that places them.
#include <ATen/Functions.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>

#include "pipeline/stage_device.h"
#include "support/cuda_device.h"
#include "support/given_weights.h"
#include "xcomposer/error.h"

namespace xcomposer {
namespace {

class GpuUpload : public testing::Test {
 protected:
  void SetUp() override { cuda_testing::RequireDevice(); }

  std::map<std::string, at::Tensor> Load(GivenWeights& host, WeightStorage storage) {
    PipelineOptions options;
    options.storage = storage;
    const auto device = MakeStageDevice("cuda:0", options, std::make_shared<CorePool>(1));
    std::map<std::string, at::Tensor> arrived;
    device->Load(host, [&](WeightSource& source) {
      for (const auto& [name, tensor] : host.tensors) {
        arrived[name] = source.Take(name, tensor.sizes());
      }
    });
    for (auto& [name, tensor] : arrived) tensor = tensor.cpu();
    return arrived;
  }
};

TEST_F(GpuUpload, WeightsArriveAsLibTorchConvertsThem) {
  for (const WeightStorage storage : {WeightStorage::kFloat16, WeightStorage::kBFloat16}) {
    GivenWeights host;
    for (const at::ScalarType stored : {at::kHalf, at::kBFloat16, at::kFloat}) {
      // More pieces than there are buffers, and ends that are no multiple of anything.
      for (const int64_t count : {60000000, 4194304, 3000001, 7}) {
        const at::Tensor numbers = at::arange(count, at::kFloat).mul(0.37f).sin().mul(1000.0f);
        host.tensors[std::to_string(count) + c10::toString(stored)] = numbers.to(stored);
      }
    }
    const at::ScalarType type = storage == WeightStorage::kFloat16 ? at::kHalf : at::kBFloat16;
    for (const auto& [name, tensor] : Load(host, storage)) {
      EXPECT_TRUE(tensor.equal(host.tensors[name].to(type))) << name << " to " << type;
    }
  }
}

TEST_F(GpuUpload, WhatBecomesInfiniteIsRefusedByName) {
  GivenWeights host;
  host.tensors["fine"] = at::full({5000000}, 3.0f, at::kBFloat16);
  host.tensors["large"] = host.tensors["fine"].clone();
  host.tensors["large"][4999999] = 1e6f;
  try {
    Load(host, WeightStorage::kFloat16);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kCheckpoint);
    EXPECT_EQ(error.where().at("tensor"), "large");
  }
  GivenWeights again;  // a source gives each weight once
  again.tensors = host.tensors;
  EXPECT_EQ(Load(again, WeightStorage::kBFloat16).size(), 2u);
}

}  // namespace
}  // namespace xcomposer
