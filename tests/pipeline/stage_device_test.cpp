#include "pipeline/stage_device.h"

#include <c10/util/Exception.h>
#include <gmock/gmock.h>

#include <functional>
#include <new>
#include <stdexcept>
#include <system_error>

#include "kernels/cpu/thread_pool.h"
#include "kernels/cuda/device_info.h"
#include "model/random_weights.h"
#include "pipeline/stream_shelf.h"
#include "pipeline/torch_errors.h"
#include "tiny_model.h"
#include "xcomposer/error.h"

namespace xcomposer {
namespace {

using testing::HasSubstr;

ErrorKind KindOf(const std::string& device, const PipelineOptions& options) {
  try {
    MakeStageDevice(device, options, std::make_shared<CorePool>(1));
  } catch (const Error& error) {
    return error.kind();
  }
  ADD_FAILURE() << "no error";
  return ErrorKind::kInternal;
}

TEST(StageDevice, WhatGpusCannotDoIsRefusedByName) {
  PipelineOptions options;
  options.storage = WeightStorage::kFloat32;
  EXPECT_EQ(KindOf("cuda:0", options), ErrorKind::kUsage);
  options.storage = WeightStorage::kAsStored;
  options.quantise = kInt4;
  EXPECT_EQ(KindOf("cuda:0", options), ErrorKind::kUsage);
  options.quantise = {};
  options.pack_bf12 = true;
  EXPECT_EQ(KindOf("cuda:0", options), ErrorKind::kUsage);
}

// What becomes of weights while they are loaded, packing and rounding, is work.
TEST(StageDevice, ACpuLoadsWithAllThreads) {
  const auto device = MakeStageDevice("cpu", {}, std::make_shared<CorePool>(3));
  RandomWeights weights(7);
  int threads = 0;
  device->Load(weights, [&](WeightSource&) { threads = cpu::CurrentPool().threads(); });
  EXPECT_EQ(threads, 3);
  EXPECT_EQ(cpu::CurrentPool().threads(), 1);
}

TEST(StreamShelf, NoTwoHaveTheSameStreamAndEachIsUsedAgain) {
  StreamShelf<int> shelf;
  int made = 0;
  const auto take = [&](int device) { return shelf.Take(device, [&] { return ++made; }); };
  {
    const auto first = take(0);
    const auto second = take(0);
    const auto elsewhere = take(1);
    EXPECT_EQ(first.stream(), 1);
    EXPECT_EQ(second.stream(), 2);
    EXPECT_EQ(elsewhere.stream(), 3);
  }
  const auto again = take(1);
  EXPECT_EQ(again.stream(), 3);
  const auto another = take(1);
  EXPECT_EQ(another.stream(), 4);
  EXPECT_LE(take(0).stream(), 2);
}

TEST(StageDevice, AGpuThatIsNotThereIsADeviceError) {
  const size_t gpus = cuda::QueryRuntime().devices.size();
  EXPECT_EQ(KindOf("cuda:" + std::to_string(gpus), {}), ErrorKind::kDevice);
}

TEST(StageDevice, ModelsThatNoKernelTakesAreRefusedByName) {
  ModelConfig config = TinyModel(Kind::kVl7b);  // heads of 16
  bool int8_kv = false;
  const auto refusal = [&] {
    try {
      CheckModelOn("cuda:0", config, int8_kv);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kDevice);
      return std::string(error.what());
    }
    return std::string();
  };
  CheckModelOn("cpu", config);
  EXPECT_THAT(refusal(), HasSubstr("heads of 16"));
  config.hidden_size = 6 * 64;
  EXPECT_EQ(refusal(), "");
  config.intermediate_size = 132;
  EXPECT_THAT(refusal(), HasSubstr("width of 132"));
  config.intermediate_size = 136;
  config.vision.heads = 2;
  EXPECT_THAT(refusal(), HasSubstr("vision tower has heads of 32"));
  config.vision.heads = 1;
  config.quantization = kInt4;
  EXPECT_THAT(refusal(), HasSubstr("quantised"));
  int8_kv = true;
  EXPECT_THAT(refusal(), HasSubstr("cuda:0 is a CUDA device: only the CPU has kernels for them"));
  CheckModelOn("cpu", config, int8_kv);
}

TEST(StageDevice, AGpusStageTakesItsBudgetAndNoMoreThanThereIs) {
  EXPECT_DOUBLE_EQ(MemoryShare(10, 50, 100, std::nullopt), 0.6);
  EXPECT_DOUBLE_EQ(MemoryShare(10, 50, 100, 20), 0.3);  // beside what an earlier stage has
  EXPECT_DOUBLE_EQ(MemoryShare(10, 50, 100, 80), 0.6);
  EXPECT_DOUBLE_EQ(MemoryShare(10, 50, 100, -1), 0.1);
  EXPECT_DOUBLE_EQ(MemoryShare(60, 50, 100, std::nullopt), 1.0);
  EXPECT_DOUBLE_EQ(MemoryShare(0, 0, 0, std::nullopt), 0.0);
}

TEST(StageDevice, TheCpuNeedsNone) {
  const auto cpu = MakeStageDevice("cpu:1", {}, std::make_shared<CorePool>(1));
  EXPECT_EQ(cpu->options().device(), at::Device(at::kCPU));
  EXPECT_EQ(cpu->options().dtype(), at::kFloat);
  EXPECT_EQ(cpu->recorder(), nullptr);
  EXPECT_NE(cpu->Enter(), nullptr);
}

TEST(Translated, TellsWhatIsLostFromWhatWasNotToBeHad) {
  const auto error_of = [](const std::function<void()>& work) {
    try {
      Translated("working", work);
    } catch (const Error& error) {
      return error;
    }
    return Error(ErrorKind::kUsage, "nothing was thrown");
  };
  const auto torch = [&](const char* text) {
    return error_of([text] { TORCH_CHECK(false, text); }).kind();
  };
  EXPECT_EQ(torch("CUDA error: an illegal memory access was encountered"), ErrorKind::kDevice);
  EXPECT_EQ(torch("CUDA out of memory."), ErrorKind::kCapacity);
  EXPECT_EQ(torch("CUDA error: operation not permitted when stream is capturing"),
            ErrorKind::kInternal);
  EXPECT_EQ(torch("shapes differ"), ErrorKind::kInternal);

  EXPECT_EQ(error_of([] { throw std::bad_alloc(); }).kind(), ErrorKind::kCapacity);
  const Error threads = error_of([] {
    throw std::system_error(std::make_error_code(std::errc::resource_unavailable_try_again));
  });
  EXPECT_EQ(threads.kind(), ErrorKind::kCapacity);
  EXPECT_STREQ(threads.what(), "while working: the system gives this process no more threads");
  const Error other = error_of([] { throw std::runtime_error("surprise"); });
  EXPECT_EQ(other.kind(), ErrorKind::kInternal);
  EXPECT_STREQ(other.what(), "unexpected failure while working: surprise");
}

}  // namespace
}  // namespace xcomposer
