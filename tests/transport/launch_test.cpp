#include "transport/launch.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include "xcomposer/error.h"

namespace xcomposer {
namespace {

using Environment = std::map<std::string, std::string>;

// The flag or variable that the error names; "" where there is none.
std::string Refused(const LaunchFlags& flags, const Environment& environment) {
  try {
    ReadLaunch(flags, environment);
    return "";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUsage);
    const auto found = error.where().find("variable");
    return found == error.where().end() ? "nothing" : found->second;
  }
}

LaunchFlags Flags(int rank, int world_size, const std::string& rendezvous) {
  return {rank, world_size, rendezvous};
}

const Environment kTorchrun = {{"RANK", "3"},
                               {"WORLD_SIZE", "4"},
                               {"LOCAL_RANK", "1"},
                               {"MASTER_ADDR", "node0"},
                               {"MASTER_PORT", "29400"},
                               {"TORCHELASTIC_USE_AGENT_STORE", "True"},
                               {"TORCHELASTIC_RUN_ID", "job7"},
                               {"TORCHELASTIC_RESTART_COUNT", "2"}};
const Environment kSrun = {{"SLURM_PROCID", "1"}, {"SLURM_NTASKS", "2"}, {"SLURM_LOCALID", "0"}};
const Environment kMpirun = {{"OMPI_COMM_WORLD_RANK", "2"},
                             {"OMPI_COMM_WORLD_SIZE", "3"},
                             {"OMPI_COMM_WORLD_LOCAL_RANK", "2"}};

Environment Joined(Environment environment, const Environment& more) {
  for (const auto& [name, value] : more) environment[name] = value;
  return environment;
}

TEST(Launch, AProcessThatNobodyLaunchedIsAlone) {
  const Launch launch = ReadLaunch({}, {});
  EXPECT_EQ(launch.launcher, Launcher::kNone);
  EXPECT_EQ(launch.rank, 0);
  EXPECT_EQ(launch.world_size, 1);
  EXPECT_FALSE(launch.is_distributed());
}

TEST(Launch, Flags) {
  const Launch launch = ReadLaunch(Flags(1, 2, "10.0.0.1:29500"), {});
  EXPECT_EQ(launch.launcher, Launcher::kFlags);
  EXPECT_EQ(launch.rank, 1);
  EXPECT_EQ(launch.world_size, 2);
  EXPECT_EQ(launch.host, "10.0.0.1");
  EXPECT_EQ(launch.port, 29500);
  EXPECT_FALSE(launch.agent_store);
  EXPECT_TRUE(launch.is_distributed());
}

TEST(Launch, TorchrunWithItsAgentsStore) {
  const Launch launch = ReadLaunch({}, kTorchrun);
  EXPECT_EQ(launch.launcher, Launcher::kTorchrun);
  EXPECT_EQ(launch.rank, 3);
  EXPECT_EQ(launch.world_size, 4);
  EXPECT_EQ(launch.local_rank, 1);
  EXPECT_EQ(launch.host, "node0");
  EXPECT_EQ(launch.port, 29400);
  EXPECT_TRUE(launch.agent_store);
  EXPECT_EQ(launch.run_id, "job7/2");
}

TEST(Launch, TorchrunWithoutItsAgentsStore) {
  for (const char* off : {"False", "0", ""}) {
    Environment environment = kTorchrun;
    environment["TORCHELASTIC_USE_AGENT_STORE"] = off;
    EXPECT_FALSE(ReadLaunch({}, environment).agent_store) << off;
  }
  // A rendezvous of the user's own is not the agent's.
  LaunchFlags flags;
  flags.rendezvous = "host:1";
  const Launch launch = ReadLaunch(flags, kTorchrun);
  EXPECT_FALSE(launch.agent_store);
  EXPECT_EQ(launch.host, "host");
  EXPECT_EQ(launch.rank, 3);
}

TEST(Launch, SrunAndMpirunWithARendezvous) {
  LaunchFlags flags;
  flags.rendezvous = "[fd00::1]:29500";
  const Launch srun = ReadLaunch(flags, kSrun);
  EXPECT_EQ(srun.launcher, Launcher::kSrun);
  EXPECT_EQ(srun.rank, 1);
  EXPECT_EQ(srun.world_size, 2);
  EXPECT_EQ(srun.host, "fd00::1");
  const Launch mpirun =
      ReadLaunch({}, Joined(kMpirun, {{"MASTER_ADDR", "fd00::2"}, {"MASTER_PORT", "5"}}));
  EXPECT_EQ(mpirun.launcher, Launcher::kMpirun);
  EXPECT_EQ(mpirun.rank, 2);
  EXPECT_EQ(mpirun.local_rank, 2);
  EXPECT_EQ(mpirun.host, "fd00::2");
  EXPECT_EQ(mpirun.port, 5);
  EXPECT_FALSE(mpirun.agent_store);
}

TEST(Launch, TheFirstThatSaysSomethingCounts) {
  const Environment everything = Joined(Joined(kSrun, kMpirun), kTorchrun);
  EXPECT_EQ(ReadLaunch({}, everything).launcher, Launcher::kTorchrun);
  // mpirun starts its own daemons with srun, which leave their variables to the ranks.
  LaunchFlags meeting;
  meeting.rendezvous = "h:1";
  EXPECT_EQ(ReadLaunch(meeting, Joined(kSrun, kMpirun)).launcher, Launcher::kMpirun);
  // A shell in an allocation of Slurm has its variables, whoever starts the ranks there.
  EXPECT_EQ(ReadLaunch(Flags(0, 5, "h:1"), kSrun).launcher, Launcher::kFlags);
  EXPECT_EQ(ReadLaunch(Flags(3, 4, "h:1"), kTorchrun).launcher, Launcher::kFlags);
}

TEST(Launch, FlagsThatContradictALauncherAreRefused) {
  EXPECT_EQ(Refused(Flags(0, 4, "h:1"), kTorchrun), "RANK");
  EXPECT_EQ(Refused(Flags(3, 5, "h:1"), kTorchrun), "RANK");
  EXPECT_EQ(Refused(Flags(0, 3, "h:1"), kMpirun), "OMPI_COMM_WORLD_RANK");
}

TEST(Launch, WhatIsHalfSetIsRefusedByName) {
  LaunchFlags flags;
  flags.rank = 0;
  EXPECT_EQ(Refused(flags, {}), "--world-size");
  flags = {};
  flags.world_size = 2;
  EXPECT_EQ(Refused(flags, {}), "--rank");
  flags = {};
  flags.rendezvous = "h:1";
  EXPECT_EQ(Refused(flags, {}), "nothing");
  for (const auto& [missing, rest] : {std::pair<std::string, Environment>{"RANK", kTorchrun},
                                      {"WORLD_SIZE", kTorchrun},
                                      {"MASTER_ADDR", kTorchrun},
                                      {"MASTER_PORT", kTorchrun},
                                      {"SLURM_PROCID", kSrun},
                                      {"SLURM_NTASKS", kSrun},
                                      {"OMPI_COMM_WORLD_RANK", kMpirun},
                                      {"OMPI_COMM_WORLD_SIZE", kMpirun}}) {
    Environment environment = rest;
    environment.erase(missing);
    EXPECT_EQ(Refused({}, environment), missing);
    environment[missing] = "";  // an empty variable says nothing
    EXPECT_EQ(Refused({}, environment), missing);
  }
}

TEST(Launch, RanksThatNobodyToldWhereToMeetAreRefused) {
  EXPECT_EQ(Refused({}, kSrun), "--rendezvous");
  EXPECT_EQ(Refused({}, kMpirun), "--rendezvous");
  LaunchFlags flags;
  flags.rank = 0;
  flags.world_size = 2;
  EXPECT_EQ(Refused(flags, {}), "--rendezvous");
  flags.world_size = 1;  // alone it needs nobody
  EXPECT_EQ(Refused(flags, {}), "");
  EXPECT_EQ(Refused({}, {{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "1"}}), "");
}

TEST(Launch, NumbersOutOfRangeAreRefusedByName) {
  EXPECT_EQ(Refused(Flags(2, 2, "h:1"), {}), "--rank");
  EXPECT_EQ(Refused(Flags(-1, 2, "h:1"), {}), "--rank");
  EXPECT_EQ(Refused(Flags(0, 0, "h:1"), {}), "--world-size");
  EXPECT_EQ(Refused(Flags(0, 70000, "h:1"), {}), "--world-size");
  for (const char* bad : {"x", "1x", " 1", "1.0", "99999999999", "-"}) {
    EXPECT_EQ(Refused({}, Joined(kTorchrun, {{"RANK", bad}})), "RANK") << bad;
    EXPECT_EQ(Refused({}, Joined(kTorchrun, {{"MASTER_PORT", bad}})), "MASTER_ADDR:MASTER_PORT");
  }
  EXPECT_EQ(Refused({}, Joined(kTorchrun, {{"RANK", "4"}})), "RANK");
  EXPECT_EQ(Refused({}, Joined(kTorchrun, {{"LOCAL_RANK", "4"}})), "LOCAL_RANK");
  EXPECT_EQ(Refused({}, Joined(kTorchrun, {{"MASTER_PORT", "65536"}})), "MASTER_ADDR:MASTER_PORT");
  EXPECT_EQ(Refused({}, Joined(kTorchrun, {{"TORCHELASTIC_USE_AGENT_STORE", "perhaps"}})),
            "TORCHELASTIC_USE_AGENT_STORE");
}

TEST(Launch, PlacesThatAreNoHostAndPortAreRefused) {
  for (const char* bad : {"", "host", ":1", "host:", "host:0", "host:65536", "host:1x", "a:b:1",
                          "[::1]", "::1:5", "host:-1", "[]:1"}) {
    EXPECT_EQ(Refused(Flags(0, 2, bad), {}), "--rendezvous") << bad;
  }
  EXPECT_EQ(ParseHostPort("[::1]:65535", "x").host, "::1");
  EXPECT_EQ(ParseHostPort("localhost:1", "x").port, 1);
}

TEST(Launch, TheProcessesEnvironmentIsRead) {
  ASSERT_EQ(setenv("XCOMPOSER_LAUNCH_TEST", "a=b", 1), 0);
  EXPECT_EQ(ProcessEnvironment().at("XCOMPOSER_LAUNCH_TEST"), "a=b");
  unsetenv("XCOMPOSER_LAUNCH_TEST");
}

}  // namespace
}  // namespace xcomposer
