#include "kernels/cuda/device_info.h"

#include <gtest/gtest.h>

#include "kernels/cpu/core_count.h"
#include "kernels/cpu/cpu_info.h"

namespace xcomposer {
namespace {

TEST(Cuda, QueryIsAnAnswerOnEveryMachine) {
  const cuda::RuntimeInfo info = cuda::QueryRuntime();
  if (info.devices.empty()) {
    EXPECT_FALSE(info.problem.empty());
  }
  EXPECT_EQ(info.built_with_cuda, info.runtime_version > 0);
  for (const cuda::DeviceInfo& device : info.devices) {
    EXPECT_FALSE(device.name.empty());
    EXPECT_GT(device.total_bytes, 0);
    EXPECT_LE(device.free_bytes, device.total_bytes);
    EXPECT_GE(device.compute_major, 1);
  }
}

TEST(Cpu, HasACore) { EXPECT_GE(cpu::UsableCores(), 1); }

TEST(Cpu, NamesItsInstructionSet) { EXPECT_NE(std::string(cpu::ToString(cpu::BestIsa())), ""); }

}  // namespace
}  // namespace xcomposer
