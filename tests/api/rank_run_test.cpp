#include "api/rank_run.h"

#include <gtest/gtest.h>

#include <fstream>
#include <limits>
#include <string>

#include "api/demo_model.h"
#include "checkpoint/scratch_directory.h"

namespace xcomposer {
namespace {

using api::DevicesOfRun;
using api::RankDevices;
using api::RankedDevice;
using testing_support::ExpectError;
using testing_support::kDemo;

std::string Text(const std::vector<RankedDevice>& devices) {
  std::string text;
  for (const RankedDevice& device : devices) {
    text += std::to_string(device.rank) + "=" + device.device + " ";
  }
  return text;
}

TEST(RankRun, DevicesMayNameTheirRankOrNode) {
  EXPECT_EQ(Text(RankDevices({"cpu", "cuda:1"})), "0=cpu 0=cuda:1 ");
  EXPECT_EQ(Text(RankDevices({"0:cpu", "1:cuda:0", "1:cpu:3"})), "0=cpu 1=cuda:0 1=cpu:3 ");
  EXPECT_EQ(Text(RankDevices({"0/cpu", "2/cuda:0"})), "0=cpu 2=cuda:0 ");
  // Names of machines are ranks in the order in which they come.
  EXPECT_EQ(Text(RankDevices({"b/cuda:0", "b/cuda:1", "a/cuda:0", "c:cpu"})),
            "0=cuda:0 0=cuda:1 1=cuda:0 2=cpu ");
  ExpectError(ErrorKind::kPlan, "some devices name their rank", [] {
    RankDevices({"0:cpu", "cpu"});
  });
}

TEST(RankRun, RanksMayBeCalledSo) {
  EXPECT_EQ(Text(RankDevices({"rank1:cpu", "rank0:cuda:0"})), "1=cpu 0=cuda:0 ");
  EXPECT_EQ(Text(RankDevices({"ranka:cpu", "rankb:cpu"})), "0=cpu 1=cpu ");  // two machines
}

TEST(RankRun, MapsOfSeveralRanksAreRefusedInOneProcessWithWhatToDo) {
  const testing_support::ScratchDirectory scratch;
  const std::string file = scratch.path() / "map.json";
  EngineOptions options;
  options.model = kDemo;
  options.device_map = file;
  for (const std::string other : {"1:cpu", "rank1:cpu", "b:cpu"}) {
    const std::string first = other == "b:cpu" ? "a:cpu" : "0:cpu";
    std::ofstream(file) << R"({"": ")" << first << R"(", "model.layers.1": ")" << other
                        << R"(", "model.layers.2": ")" << other << R"(", "model.norm": ")" << other
                        << R"(", "output": ")" << other << R"("})";
    ExpectError(ErrorKind::kPlan, "Start one for every rank", [&] { Engine::Load(options); });
  }
  std::ofstream(file) << R"({"": "0:cpu"})";
  EXPECT_EQ(Engine::Load(options).info().placement.size(), 1u);
}

TEST(RankRun, DevicesWithoutRanksAreThoseOfEveryRank) {
  EXPECT_EQ(Text(DevicesOfRun({"cpu"}, 3)), "0=cpu 1=cpu 2=cpu ");
  EXPECT_EQ(Text(DevicesOfRun({"cuda:0", "cuda:1"}, 2)), "0=cuda:0 0=cuda:1 1=cuda:0 1=cuda:1 ");
  EXPECT_EQ(Text(DevicesOfRun({"0:cpu", "1:cpu", "1:cpu"}, 2)), "0=cpu 1=cpu 1=cpu ");
  EXPECT_EQ(Text(DevicesOfRun({}, 2)), "");
}

TEST(RankRun, KeysAndValuesInInt8AreRefusedForAGpuOfAnyRank) {
  EngineOptions options;
  options.devices = {"0:cpu", "1:cuda:0"};
  EXPECT_EQ(api::AskedOfRun(options, {}, 2).devices.size(), 2u);
  options.kv_precision = KvPrecision::kInt8;
  ExpectError(ErrorKind::kDevice, "1:cuda:0", [&] { api::AskedOfRun(options, {}, 2); });
}

TEST(RankRun, OneProcessCanHoldAllStagesUnderTheirRanksName) {
  EngineOptions options;
  options.model = kDemo;
  options.devices = {"0:cpu", "0:cpu"};
  EXPECT_EQ(Engine::Load(options).info().placement.size(), 2u);
  options.devices = {"0:cpu", "1:cpu"};
  ExpectError(ErrorKind::kPlan, "rank 1", [&] { Engine::Load(options); });
}

TEST(RankRun, HalfARunIsRefused) {
  EngineOptions options;
  options.model = kDemo;
  options.ranks.rank = 1;
  ExpectError(ErrorKind::kUsage, "", [&] { RankOf(options.ranks); });
  options.ranks = {};
  EXPECT_EQ(RankOf(options.ranks), 0);
  ExpectError(ErrorKind::kUsage, "rank 0", [&] { Serve(options); });
  options.ranks.timeout_s = 0;
  ExpectError(ErrorKind::kUsage, "timeout_s", [&] { Engine::Load(options); });
  options.ranks.timeout_s = std::numeric_limits<double>::quiet_NaN();
  ExpectError(ErrorKind::kUsage, "timeout_s", [&] { Engine::Load(options); });
}

TEST(RankRun, OtherRanksCannotTakeRequests) {
  EngineOptions options;
  options.model = kDemo;
  options.ranks.rank = 1;
  options.ranks.world_size = 2;
  options.ranks.rendezvous = "127.0.0.1:1";
  options.ranks.timeout_s = 0.2;
  EXPECT_EQ(RankOf(options.ranks), 1);
  ExpectError(ErrorKind::kUsage, "only rank 0 takes requests", [&] { Engine::Load(options); });
}

}  // namespace
}  // namespace xcomposer
