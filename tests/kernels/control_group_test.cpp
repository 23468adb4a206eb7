#include "kernels/cpu/control_group.h"

#include <gtest/gtest.h>

#include <fstream>

#include "checkpoint/scratch_directory.h"
#include "kernels/cpu/core_count.h"

namespace xcomposer::cpu {
namespace {

using Paths = std::vector<std::filesystem::path>;

class ControlGroup : public ::testing::Test {
 protected:
  Paths Groups(const std::string& controller, const std::string& membership) {
    const ControlGroupFiles files = {folder_.path(), folder_.Write("membership", membership)};
    return ControlGroups(controller, files);
  }
  std::filesystem::path Made(const std::string& name) {
    std::filesystem::create_directories(folder_.path() / name);
    return folder_.path() / name;
  }
  const std::filesystem::path& mount() const { return folder_.path(); }

  testing_support::ScratchDirectory folder_;
};

TEST_F(ControlGroup, Version2HasOneTree) {
  const auto inner = Made("system.slice/answers.service");
  EXPECT_EQ(Groups("memory", "0::/system.slice/answers.service\n"),
            (Paths{inner, mount() / "system.slice", mount()}));
}

TEST_F(ControlGroup, Version1HasATreeForEachController) {
  const auto inner = Made("memory/job/step");
  Made("cpu/other");
  const std::string membership =
      "9:name=systemd:/x\n5:devices:/\n4:memory:/job/step\n1:cpuacct,cpu:/other\n0::/\n";
  EXPECT_EQ(Groups("memory", membership),
            (Paths{inner, mount() / "memory/job", mount() / "memory"}));
  EXPECT_EQ(Groups("cpu", membership), (Paths{mount() / "cpu/other", mount() / "cpu"}));
}

TEST_F(ControlGroup, AContainerSeesItsOwnGroupAtTheTop) {
  // Its path is the host's, which is not mounted here, or lies outside.
  EXPECT_EQ(Groups("memory", "0::/docker/1234\n"), Paths{mount()});
  EXPECT_EQ(Groups("memory", "0::/../..\n"), Paths{mount()});
  EXPECT_EQ(Groups("memory", "4:memory:/docker/1234\n"), Paths{mount() / "memory"});
}

TEST_F(ControlGroup, TheTightestQuotaOfProcessorsCounts) {
  const auto group = [this](const std::string& name, const std::string& file,
                            const std::string& text) {
    Made(name);
    folder_.Write(name + "/" + file, text);
    return mount() / name;
  };
  const auto open = group("open", "cpu.max", "max 100000\n");
  const auto three = group("three", "cpu.max", "250000 100000\n");  // two and a half
  const auto old = group("old", "cpu.cfs_quota_us", "400000\n");
  group("old", "cpu.cfs_period_us", "100000\n");
  const auto unlimited = group("unlimited", "cpu.cfs_quota_us", "-1\n");
  group("unlimited", "cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(CoresWithinGroups({open, unlimited, mount()}), 0);
  EXPECT_EQ(CoresWithinGroups({open, three, mount()}), 3);
  EXPECT_EQ(CoresWithinGroups({old, unlimited}), 4);
  EXPECT_EQ(CoresWithinGroups({old, three}), 3);
}

TEST_F(ControlGroup, UsableCoresAreNoMoreThanTheGroupAllows) {
  const ControlGroupFiles files = {mount(), folder_.Write("membership", "0::/answers\n")};
  Made("answers");
  const int all = UsableCores(files);
  EXPECT_GE(all, UsableCores());
  folder_.Write("answers/cpu.max", "50000 100000\n");
  EXPECT_EQ(UsableCores(files), 1);  // half a one, rounded up
  folder_.Write("answers/cpu.max", "10000000000 100000\n");
  EXPECT_EQ(UsableCores(files), all);
}

TEST_F(ControlGroup, WithoutGroupsThereIsTheMount) {
  EXPECT_EQ(Groups("memory", ""), Paths{mount()});
  EXPECT_EQ(ControlGroups("cpu", {mount(), mount() / "no such file"}), Paths{mount()});
}

}  // namespace
}  // namespace xcomposer::cpu
