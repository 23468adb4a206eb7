#include "kernels/cuda/device_info.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>

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

TEST(Cpu, MayRunWhatItHasAndNothingWider) {
  EXPECT_TRUE(cpu::MayRun(cpu::Isa::kPortable));
  EXPECT_TRUE(cpu::MayRun(cpu::BestIsa()));
  for (const cpu::Isa isa : cpu::kAllIsas) {
    if (isa > cpu::BestIsa()) {
      EXPECT_FALSE(cpu::MayRun(isa)) << cpu::ToString(isa);
    }
    if (isa < cpu::BestIsa() && isa != cpu::Isa::kAvx2Vnni) {
      EXPECT_TRUE(cpu::MayRun(isa)) << cpu::ToString(isa);
    }
  }
}

#if defined(__linux__) && defined(__x86_64__)
/// Linux reads the processor's features for itself. (One that is taken to be there and is not ends
/// the tests of its kernels.)
TEST(Cpu, FindsAvxVnniWhereLinuxDoes) {
  std::ifstream file("/proc/cpuinfo");
  const std::string text(std::istreambuf_iterator<char>(file), {});
  if (text.find(" avx_vnni ") == std::string::npos) {
    GTEST_SKIP() << "Linux knows of no AVX-VNNI here";
  }
  if (const char* most = std::getenv(cpu::kMaxIsaVariable); most != nullptr && *most != '\0') {
    GTEST_SKIP() << cpu::kMaxIsaVariable << " may forbid it";
  }
  EXPECT_TRUE(cpu::MayRun(cpu::Isa::kAvx2Vnni));
}
#endif

TEST(Cpu, AnUnknownLimitOfInstructionSetsIsToldWithThoseThatThereAre) {
  const char* before = std::getenv(cpu::kMaxIsaVariable);
  const std::string kept = before == nullptr ? "" : before;
  for (const char* known : {"", "portable", "avx2", "avx2vnni", "avx512vnni", "amx"}) {
    ASSERT_EQ(setenv(cpu::kMaxIsaVariable, known, 1), 0);
    EXPECT_EQ(cpu::MaxIsaProblem(), "") << known;
  }
  for (const char* unknown : {"sse", "AVX2", "avx2 ", "avx"}) {
    ASSERT_EQ(setenv(cpu::kMaxIsaVariable, unknown, 1), 0);
    EXPECT_THAT(cpu::MaxIsaProblem(),
                testing::AllOf(testing::HasSubstr("\"" + std::string(unknown) + "\""),
                               testing::HasSubstr(" portable avx2 avx2vnni avx512 ")));
  }
  ASSERT_EQ(setenv(cpu::kMaxIsaVariable, kept.c_str(), 1), 0);
}

}  // namespace
}  // namespace xcomposer
