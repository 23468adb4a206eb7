// Ranks in processes of their own, which are really killed and stopped.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>
#include <random>
#include <thread>

#include "transport/folder_store.h"
#include "transport/rank_group.h"
#include "transport/rank_process.h"

namespace xcomposer {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr int kRanks = 3;
constexpr milliseconds kRankTimeout{1200};
constexpr milliseconds kPatience{15000};  // of the test; the ranks must be quicker by far

std::unique_ptr<Transport> ConnectInFolder(const std::filesystem::path& folder, int rank,
                                           const std::string& run) {
  RendezvousOptions options = LoopbackRanks(kRanks)[static_cast<size_t>(rank)];
  options.transport.rank_timeout = kRankTimeout;
  options.prefix = run;
  DeadlineWorker worker;
  return MeetRanks(std::make_shared<FolderStore>(folder), worker, options, In(2 * kRankTimeout));
}

// Steps in a ring, for ever: each rank is stage `rank`.
[[noreturn]] void RunSteps(Transport& transport, const RankProcess::Say& say) {
  const int next = (transport.rank() + 1) % kRanks;
  const int previous = (transport.rank() + kRanks - 1) % kRanks;
  const auto begin = steady_clock::now();
  bool said = false;
  for (uint64_t step = 1;; ++step) {
    FrameHeader header;
    header.channel = Channel::kHidden;
    header.stage = static_cast<uint32_t>(transport.rank());
    header.step = step;
    header.rows = 1;
    header.payload_bytes = 8192;
    transport.Send(next, header, Payload::Allocate(8192));
    if (!transport.Receive(previous, Channel::kHidden, TimePoint::max())) say("woken for nothing");
    // By then heartbeats have told every rank at which stage the others are.
    if (said || steady_clock::now() - begin < kRankTimeout / 3) continue;
    said = true;
    say("steps");
  }
}

std::string Described(const Error& error) {
  const auto place = [&](const char* name) {
    const auto found = error.where().find(name);
    return found == error.where().end() ? std::string("?") : found->second;
  };
  return StrCat(ToString(error.kind()), " rank ", place("rank"), " stage ", place("stage"),
                " step ", place("step") == "?" ? "?" : "n");
}

// Runs until the first error, says it, and then does it all again in the second run.
void RunTwice(const std::filesystem::path& folder, int rank, const RankProcess::Say& say) {
  for (const char* run : {"first/", "second/"}) {
    try {
      const std::unique_ptr<Transport> transport = ConnectInFolder(folder, rank, run);
      RunSteps(*transport, say);
    } catch (const Error& error) {
      say(Described(error));
    }
  }
}

class ProcessFailure : public ::testing::Test {
 protected:
  void Start() {
    for (int rank = 0; rank < kRanks; ++rank) {
      processes_.emplace_back(
          [&, rank](const RankProcess::Say& say) { RunTwice(folder_.path(), rank, say); });
    }
  }
  void ExpectLine(int rank, const std::string& line) {
    EXPECT_EQ(processes_[static_cast<size_t>(rank)].Line(kPatience).value_or("nothing"), line)
        << "rank " << rank;
  }

  TemporaryFolder folder_;
  std::deque<RankProcess> processes_;
};

TEST_F(ProcessFailure, AKilledRankIsNamedByEverySurvivorAndTheyRunAgain) {
  for (int victim = 0; victim < kRanks; ++victim) {
    SCOPED_TRACE(victim);
    processes_.clear();
    std::filesystem::remove_all(folder_.path());
    std::filesystem::create_directory(folder_.path());
    Start();
    for (int rank = 0; rank < kRanks; ++rank) ExpectLine(rank, "steps");
    processes_[static_cast<size_t>(victim)].Signal(SIGKILL);
    const auto killed = steady_clock::now();
    for (int rank = 0; rank < kRanks; ++rank) {
      if (rank == victim) continue;
      ExpectLine(rank, StrCat("rank rank ", victim, " stage ", victim, " step n"));
    }
    // Closed connections tell at once; silence would take the rank timeout.
    EXPECT_LT(steady_clock::now() - killed, milliseconds(10000));
    // The same processes meet a new rank in place of the dead one.
    const RankProcess replacement([&](const RankProcess::Say& say) {
      const auto transport = ConnectInFolder(folder_.path(), victim, "second/");
      RunSteps(*transport, say);
    });
    for (int rank = 0; rank < kRanks; ++rank) {
      if (rank != victim) ExpectLine(rank, "steps");
    }
  }
}

TEST_F(ProcessFailure, AStoppedRankIsNamedByEverySurvivorAndLearnsItLater) {
  Start();
  for (int rank = 0; rank < kRanks; ++rank) ExpectLine(rank, "steps");
  processes_[1].Signal(SIGSTOP);
  const auto stopped = steady_clock::now();
  ExpectLine(0, "rank rank 1 stage 1 step n");
  ExpectLine(2, "rank rank 1 stage 1 step n");
  EXPECT_GE(steady_clock::now() - stopped, kRankTimeout / 2);  // it was silence that told
  processes_[1].Signal(SIGCONT);
  // It hears of its own loss, or finds the others gone.
  const std::string line = processes_[1].Line(kPatience).value_or("nothing");
  EXPECT_EQ(line.rfind("rank rank ", 0), 0U) << line;
}

TEST_F(ProcessFailure, ARankThatIsStoppedForLessThanTheBoundIsNotLost) {
  Start();
  for (int rank = 0; rank < kRanks; ++rank) ExpectLine(rank, "steps");
  processes_[2].Signal(SIGSTOP);
  std::this_thread::sleep_for(kRankTimeout / 3);
  processes_[2].Signal(SIGCONT);
  std::this_thread::sleep_for(2 * kRankTimeout);
  for (int rank = 0; rank < kRanks; ++rank) {
    const auto line = processes_[static_cast<size_t>(rank)].Line(milliseconds(1));
    EXPECT_FALSE(line.has_value()) << line.value_or("");
  }
}

TEST_F(ProcessFailure, ARankThatIsKilledWhileTheyMeetHoldsNobody) {
  std::mt19937 random(7);
  for (int round = 0; round < 4; ++round) {
    SCOPED_TRACE(round);
    processes_.clear();
    std::filesystem::remove_all(folder_.path());
    std::filesystem::create_directory(folder_.path());
    const int victim = static_cast<int>(random() % kRanks);
    Start();
    std::this_thread::sleep_for(milliseconds(random() % 120));
    processes_[static_cast<size_t>(victim)].Signal(SIGKILL);
    for (int rank = 0; rank < kRanks; ++rank) {
      if (rank == victim) continue;
      std::string line = "steps";
      while (line == "steps") {  // they may have met before
        line = processes_[static_cast<size_t>(rank)].Line(kPatience).value_or("nothing");
      }
      // Where they had met it was at its stage already.
      const std::string lost = StrCat("rank rank ", victim, " stage ");
      EXPECT_THAT(line, ::testing::AnyOf(StrCat(lost, "0 step n"), StrCat(lost, victim, " step n")))
          << "rank " << rank;
    }
  }
}

}  // namespace
}  // namespace xcomposer
