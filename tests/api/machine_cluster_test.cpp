#include "api/machine_cluster.h"

#include <gtest/gtest.h>

#include "api/demo_model.h"
#include "api/free_memory.h"
#include "kernels/cpu/core_count.h"
#include "kernels/cpu/isa_kernels.h"
#include "kernels/cuda/device_info.h"
#include "xcomposer/devices.h"

namespace xcomposer::api {
namespace {

TEST(MachineCluster, ACpuNamedTwiceSharesItsMemory) {
  const Cluster cluster = MachineCluster({"cpu", "cpu"});
  ASSERT_EQ(cluster.devices.size(), 2u);
  EXPECT_EQ(cluster.devices[0].name, "cpu");
  EXPECT_EQ(cluster.devices[1].name, "cpu:1");
  EXPECT_EQ(cluster.devices[0].budget, cluster.devices[1].budget);
  const int64_t free = HostMemory().available;
  // It may have changed in between, but hardly by half.
  EXPECT_LT(cluster.devices[0].budget + cluster.devices[1].budget, free + free / 2);
}

TEST(MachineCluster, SaysWhyThereIsNoGpu) {
  const cuda::RuntimeInfo cuda = cuda::QueryRuntime();
  EXPECT_EQ(Machine().cuda_problem, cuda.problem);
  const std::string reason = cuda.problem.empty() ? "" : ": " + cuda.problem;
  testing_support::ExpectError(ErrorKind::kDevice,
                               "this machine has no cuda:99" + reason + "; it has cpu",
                               [] { MachineCluster({"cuda:99"}); });
}

TEST(HostTraits, AreWhatTheKernelsOfThisMachineNeed) {
  const ComputeTraits traits = HostTraits(3);
  EXPECT_EQ(traits.threads, 3);
  EXPECT_TRUE(traits.packs_rows);
  EXPECT_EQ(traits.runtime, CpuTraits().runtime);
  const cpu::PanelSizes panels = cpu::LargestPanels(cpu::BestIsa());
  EXPECT_EQ(traits.panel_rows, panels.rows);
  EXPECT_EQ(traits.panel_columns, panels.columns);
  EXPECT_EQ(traits.panel_number, panels.x_bytes);
  EXPECT_EQ(traits.streamed_rows, panels.few_rows);
  EXPECT_EQ(traits.panel_scratch, 4 * panels.scratch);  // floats
  const cpu::IsaKernels& kernels = cpu::KernelsFor(cpu::BestIsa());
  for (const int64_t head_dim : {64, 128}) {
    EXPECT_EQ(traits.attention_fixed + traits.attention_scratch * head_dim,
              4 * kernels.attention_scratch(head_dim));
  }
}

TEST(HostTraits, WithoutANumberAllUsableCoresAreThreads) {
  EXPECT_EQ(HostTraits(0).threads, cpu::UsableCores());
}

}  // namespace
}  // namespace xcomposer::api
