// Real NCCL between two threads, each with a GPU and a stream of its own.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <optional>
#include <thread>
#include <vector>

#include "transport/in_process.h"
#include "transport/nccl_link.h"

namespace xcomposer {
namespace {

int DeviceCount() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

bool GpuIsRequired() {
  const char* text = std::getenv("XCOMPOSER_REQUIRE_GPU");
  return text != nullptr && std::string(text) == "1";
}

// Rank 0 sends `bytes`; what rank 1 was given, or the errors.
struct Exchange {
  std::vector<std::byte> arrived;
  std::optional<Error> errors[2];
};

Exchange FromRankToRank(const std::vector<std::byte>& bytes, int device_of_one) {
  const auto ranks = MakeInProcessTransports(2);
  Exchange exchange;
  const auto run = [&](int rank, int device) {
    const TimePoint until = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    ASSERT_EQ(cudaSetDevice(device), cudaSuccess);
    cudaStream_t stream = nullptr;
    void* memory = nullptr;
    ASSERT_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
    ASSERT_EQ(cudaMalloc(&memory, bytes.size() + 8), cudaSuccess);
    NcclOptions options;
    options.peer = 1 - rank;
    options.end = rank == 0 ? NcclOptions::End::kSends : NcclOptions::End::kReceives;
    options.stream = stream;
    options.scratch = static_cast<std::byte*>(memory) + bytes.size();
    const auto size = static_cast<int64_t>(bytes.size());
    try {
      NcclLink link(SystemNccl().value(), *ranks[static_cast<size_t>(rank)], options, until);
      if (rank == 0) {
        ASSERT_EQ(cudaMemcpy(memory, bytes.data(), bytes.size(), cudaMemcpyHostToDevice),
                  cudaSuccess);
        link.Send(memory, size, until);
        link.Wait(until);
      } else {
        link.Receive(memory, size, until);
        link.Wait(until);
        exchange.arrived.resize(bytes.size());
        ASSERT_EQ(cudaMemcpy(exchange.arrived.data(), memory, bytes.size(), cudaMemcpyDeviceToHost),
                  cudaSuccess);
      }
    } catch (const Error& error) {
      exchange.errors[rank] = error;
    }
    cudaFree(memory);
    cudaStreamDestroy(stream);
  };
  std::thread one([&] { run(1, device_of_one); });
  run(0, 0);
  one.join();
  return exchange;
}

std::vector<std::byte> SomeBytes() {
  std::vector<std::byte> bytes((1 << 20) + 8);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 131 % 251);
  return bytes;
}

TEST(NcclGpu, TwoRanksOnTwoGpusExchangeBytes) {
  if (DeviceCount() < 2) {
    if (GpuIsRequired() && DeviceCount() == 0) FAIL() << "XCOMPOSER_REQUIRE_GPU=1 and no GPU";
    GTEST_SKIP() << "two GPUs are needed; found " << DeviceCount();
  }
  const Exchange exchange = FromRankToRank(SomeBytes(), 1);
  ASSERT_FALSE(exchange.errors[0].has_value()) << exchange.errors[0]->what();
  ASSERT_FALSE(exchange.errors[1].has_value()) << exchange.errors[1]->what();
  EXPECT_EQ(exchange.arrived, SomeBytes());
}

TEST(NcclGpu, TwoRanksOnOneGpuExchangeBytesOrAreRefusedAlike) {
  if (DeviceCount() < 1) {
    if (GpuIsRequired()) FAIL() << "XCOMPOSER_REQUIRE_GPU=1 and no GPU";
    GTEST_SKIP() << "a GPU is needed; found none";
  }
  // NCCL refuses two ranks on one GPU unless it is told otherwise; then both must say so.
  const Exchange exchange = FromRankToRank(SomeBytes(), 0);
  ASSERT_EQ(exchange.errors[0].has_value(), exchange.errors[1].has_value());
  if (exchange.errors[0]) {
    EXPECT_STREQ(exchange.errors[0]->what(), exchange.errors[1]->what());
  } else {
    EXPECT_EQ(exchange.arrived, SomeBytes());
  }
}

}  // namespace
}  // namespace xcomposer
