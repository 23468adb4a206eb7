#include "api/free_memory.h"

#include <gtest/gtest.h>

#include "checkpoint/scratch_directory.h"

namespace xcomposer::api {
namespace {

constexpr Memory kMachine = {.total = 1000, .available = 800};

class FreeMemory : public ::testing::Test {
 protected:
  std::filesystem::path Group(const std::string& name,
                              const std::map<std::string, std::string>& files) {
    std::filesystem::create_directories(folder_.path() / name);
    for (const auto& [file, text] : files) folder_.Write(name + "/" + file, text);
    return folder_.path() / name;
  }

  testing_support::ScratchDirectory folder_;
};

TEST_F(FreeMemory, IsThatOfTheMachineWhereNothingLimitsIt) {
  const auto open = Group("open", {{"memory.max", "max\n"}, {"memory.current", "70\n"}});
  // Version 1 writes a very large number.
  const auto old = Group("old", {{"memory.limit_in_bytes", "9223372036854771712\n"},
                                 {"memory.usage_in_bytes", "70\n"}});
  const Memory memory = WithinGroups(kMachine, {open, old, Group("empty", {})});
  EXPECT_EQ(memory.total, 1000);
  EXPECT_EQ(memory.available, 800);
}

TEST_F(FreeMemory, GroupsOfVersion2LimitIt) {
  const auto group = Group("group", {{"memory.max", "500\n"},
                                     {"memory.current", "300\n"},
                                     {"memory.stat", "anon 100\ninactive_file 150\n"}});
  const Memory memory = WithinGroups(kMachine, {group});
  EXPECT_EQ(memory.total, 500);
  EXPECT_EQ(memory.available, 350);  // cached files are given back
}

TEST_F(FreeMemory, GroupsOfVersion1LimitIt) {
  const auto group = Group("group", {{"memory.limit_in_bytes", "500\n"},
                                     {"memory.usage_in_bytes", "490\n"},
                                     {"memory.stat", "inactive_file 1\ntotal_inactive_file 40\n"}});
  const Memory memory = WithinGroups(kMachine, {group});
  EXPECT_EQ(memory.total, 500);
  EXPECT_EQ(memory.available, 50);
}

TEST_F(FreeMemory, TheTightestOfAllGroupsCounts) {
  const auto inner = Group("a/b", {{"memory.max", "900\n"}, {"memory.current", "10\n"}});
  const auto outer = Group("a", {{"memory.max", "600\n"}, {"memory.current", "700\n"}});
  const Memory memory = WithinGroups(kMachine, {inner, outer});
  EXPECT_EQ(memory.total, 600);
  EXPECT_EQ(memory.available, 0);
}

TEST_F(FreeMemory, OfTheHostIsNoMoreThanItsGroupAllows) {
  const cpu::ControlGroupFiles files = {folder_.path(),
                                        folder_.Write("membership", "0::/answers\n")};
  EXPECT_GE(HostMemory(files).total, HostMemory().total);
  Group("answers", {{"memory.max", "5000\n"}, {"memory.current", "3000\n"}});
  const Memory memory = HostMemory(files);
  EXPECT_EQ(memory.total, 5000);
  EXPECT_EQ(memory.available, 2000);
}

TEST_F(FreeMemory, ThisMachineHasSome) {
  EXPECT_GT(HostMemory().total, 0);
  EXPECT_LE(HostMemory().available, HostMemory().total);
}

}  // namespace
}  // namespace xcomposer::api
