// Processes that are killed and stopped at any moment: every survivor says which one, and goes on.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <cstdlib>
#include <memory>
#include <random>
#include <regex>
#include <set>
#include <thread>

#include "ranks/process.h"

namespace xcomposer {
namespace {

using namespace testing;  // processes
using std::chrono::milliseconds;
using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr int kRanks = 3;
constexpr double kTimeout = 3;          // seconds of silence that make a rank lost
constexpr milliseconds kBound{20'000};  // for a survivor's error; beyond it something hangs
constexpr milliseconds kPatience{60'000};

const std::string kModel = XCOMPOSER_SOURCE_DIR "/demo/checkpoint";

bool Full() { return std::getenv("XCOMPOSER_FULL_TESTS") != nullptr; }

std::unique_ptr<Process> StartRank(int rank,
                                   const std::map<std::string, std::string>& environment = {}) {
  return std::make_unique<Process>(
      std::vector<std::string>{XCOMPOSER_RANK_PROGRAM, std::to_string(rank), std::to_string(kRanks),
                               kModel, std::to_string(kTimeout)},
      environment);
}

class FailureMatrix : public ::testing::Test {
 protected:
  FailureMatrix() {
    for (int rank = 0; rank < kRanks; ++rank) ranks_.push_back(StartRank(rank));
  }

  void StartRun() {
    // The time to connect is for ranks that run, not for the system to start them.
    for (size_t rank = 0; rank < ranks_.size(); ++rank) {
      if (ready_.insert(ranks_[rank].get()).second) {
        ASSERT_TRUE(ranks_[rank]->LineWith("ready", kPatience)) << Transcripts();
      }
    }
    const std::string port = std::to_string(FreePort());
    for (auto& rank : ranks_) rank->Send("run " + port);
  }

  /// A run that nobody disturbs; the ids.
  std::string WholeRun() {
    StartRun();
    const auto ids = ranks_[0]->LineWith("ids", kPatience);
    EXPECT_TRUE(ids) << Transcripts();
    for (auto& rank : ranks_) {
      EXPECT_TRUE(rank->LineWith("ended", kPatience)) << Transcripts();
    }
    return ids.value_or("");
  }

  std::string Transcripts() const {
    std::string text;
    for (size_t rank = 0; rank < ranks_.size(); ++rank) {
      text += "--- rank " + std::to_string(rank) + "\n" + ranks_[rank]->transcript();
    }
    return text;
  }

  /// Lets the run come to the phase, then waits a random part of it.
  void Reach(const std::string& phase) {
    const int rank = phase == "loading" ? static_cast<int>(random_() % kRanks) : 0;
    if (phase != "rendezvous") {
      ASSERT_TRUE(ranks_[static_cast<size_t>(rank)]->LineWith(phase, kPatience)) << Transcripts();
    }
    std::this_thread::sleep_for(milliseconds(random_() % 40));
  }

  void OneLoss(int repetition) {
    static const std::vector<std::string> phases = {"rendezvous", "loading", "prefill", "decode"};
    const std::string& phase = phases[static_cast<size_t>(repetition) % phases.size()];
    const bool stop = repetition % 5 == 4;
    const int victim = static_cast<int>(random_() % kRanks);
    SCOPED_TRACE("repetition " + std::to_string(repetition) + ": rank " + std::to_string(victim) +
                 (stop ? " stopped in " : " killed in ") + phase);
    StartRun();
    Reach(phase);
    ranks_[static_cast<size_t>(victim)]->Signal(stop ? SIGSTOP : SIGKILL);
    bool finished = false;
    for (int rank = 0; rank < kRanks; ++rank) {
      if (rank == victim) continue;
      Process& survivor = *ranks_[static_cast<size_t>(rank)];
      std::optional<std::string> end;
      while ((end = survivor.NextLine(kBound))) {
        if (end->rfind("error", 0) == 0 || end->rfind("ended", 0) == 0) break;
      }
      ASSERT_TRUE(end) << "rank " << rank << " hangs or died\n" << Transcripts();
      // The signal may have come when the answer was there already.
      if (*end == "ended") {
        finished = true;
        continue;
      }
      EXPECT_THAT(*end, AnyOf(StartsWith("error rank"), StartsWith("error transport")));
      // Before all have met, a survivor knows the ranks that have not come to it, or another
      // survivor that has left already for the same reason.
      const std::string name = phase == "rendezvous" ? "[0-9]+" : std::to_string(victim);
      EXPECT_TRUE(std::regex_search(*end, std::regex(" rank=" + name + " "))) << *end;
      EXPECT_TRUE(std::regex_search(*end, std::regex(" stage=[0-9]+ step=[0-9]+"))) << *end;
      ++errors_;
    }
    if (!finished) ++losses_;
    ranks_[static_cast<size_t>(victim)]->Signal(SIGKILL);
    ready_.erase(ranks_[static_cast<size_t>(victim)].get());
    ranks_[static_cast<size_t>(victim)] = StartRank(victim);
  }

  std::mt19937 random_{20261125};
  std::vector<std::unique_ptr<Process>> ranks_;
  std::set<Process*> ready_;
  int losses_ = 0;
  int errors_ = 0;
};

TEST_F(FailureMatrix, EverySurvivorNamesTheLostRankAndRunsAgain) {
  const std::string expected = WholeRun();
  ASSERT_THAT(expected, StartsWith("ids "));
  const int repetitions = Full() ? 200 : 20;
  for (int repetition = 0; repetition < repetitions; ++repetition) {
    OneLoss(repetition);
    if (HasFatalFailure()) return;
    // The same processes make a new engine, with the lost rank back.
    if (repetition % 5 == 4) {
      ASSERT_EQ(WholeRun(), expected) << "after repetition " << repetition;
    }
  }
  EXPECT_GT(losses_, repetitions / 2);
  EXPECT_GE(errors_, 2 * losses_);
}

TEST_F(FailureMatrix, ARankWithAnotherModelOrPlanIsNamedWithTheField) {
  // Another --devices on rank 2 means another plan.
  ranks_[2] = StartRank(2, {{"RANK_PROGRAM_DEVICES", "cpu,cpu"}});
  StartRun();
  for (int rank = 0; rank < kRanks; ++rank) {
    const auto end = ranks_[static_cast<size_t>(rank)]->LineWith("error", kBound);
    ASSERT_TRUE(end) << Transcripts();
    EXPECT_THAT(*end, HasSubstr("error rank rank=2 "));
    EXPECT_THAT(*end, HasSubstr("plan"));
  }
}

TEST_F(FailureMatrix, ARankWithoutMemoryTellsAllAndTheyLiveOn) {
  for (int rank = 0; rank < kRanks; ++rank) {
    std::map<std::string, std::string> environment = {{"RANK_PROGRAM_KV", "4000000"}};
    if (rank == 2) environment["RANK_PROGRAM_MEMORY"] = "300000000";
    ranks_[static_cast<size_t>(rank)] = StartRank(rank, environment);
  }
  for (int run = 0; run < 2; ++run) {
    StartRun();
    for (auto& rank : ranks_) {
      const auto end = rank->LineWith("error", kBound);
      ASSERT_TRUE(end) << Transcripts();
      EXPECT_THAT(*end, HasSubstr("error capacity rank=2 "));
    }
  }
}

TEST_F(FailureMatrix, ARankWithAnotherSecretGetsNothing) {
  const std::map<std::string, std::string> right = {{"XCOMPOSER_SECRET", "a secret of all ranks"}};
  const std::map<std::string, std::string> wrong = {
      {"XCOMPOSER_SECRET", "a secret of nobody else"}};
  for (int rank = 0; rank < kRanks; ++rank) {
    ranks_[static_cast<size_t>(rank)] = StartRank(rank, rank == 1 ? wrong : right);
  }
  StartRun();
  for (int rank = 0; rank < kRanks; ++rank) {
    const auto end = ranks_[static_cast<size_t>(rank)]->LineWith("error", kBound);
    ASSERT_TRUE(end) << Transcripts();
    EXPECT_THAT(*end, AnyOf(StartsWith("error rank"), StartsWith("error transport")));
    if (rank != 1) {
      EXPECT_THAT(*end, HasSubstr("rank 1 "));
    }
  }
}

}  // namespace
}  // namespace xcomposer
