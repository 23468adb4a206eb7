// Processes that are killed and stopped at any moment: every survivor says which one, and goes on.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <cstdlib>
#include <random>
#include <thread>

#include "ranks/rank_group.h"

namespace xcomposer::testing {
namespace {

using std::chrono::milliseconds;
using ::testing::StartsWith;

constexpr int kRanks = 3;

class FailureMatrix : public RankGroup {
 protected:
  FailureMatrix() : RankGroup(kRanks) {}

  /// Lets the run come to the phase, then waits a random part of it.
  void Reach(const std::string& phase) {
    const int where = phase == "loading" ? static_cast<int>(random_() % kRanks) : 0;
    if (phase != "rendezvous") {
      ASSERT_TRUE(rank(where).LineWith(phase, kPatience)) << Transcripts();
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
    // Nothing but this tells of a rank that goes before it has come.
    SetAll("connect_timeout", phase == "rendezvous" ? kFewSeconds : kManySeconds);
    StartRun();
    Reach(phase);
    rank(victim).Signal(stop ? SIGSTOP : SIGKILL);
    bool finished = false;
    for (int survivor = 0; survivor < kRanks; ++survivor) {
      if (survivor == victim) continue;
      // The signal may have come when the answer was there already.
      finished = !ExpectNamedUnlessEnded(survivor, victim) || finished;
      if (HasFatalFailure()) return;
    }
    if (!finished) ++losses_;
    rank(victim).Signal(SIGKILL);
    Start(victim);
    SetAll("connect_timeout", kManySeconds);
  }

  /// False where the rank's run has ended as if nothing had been.
  bool ExpectNamedUnlessEnded(int survivor, int victim) {
    const std::string end = EndOf(survivor);
    if (end == "ended") return false;
    ++errors_;
    ExpectNames(end, survivor, victim);
    return true;
  }

  std::mt19937 random_{20261125};
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

TEST_F(FailureMatrix, ARankWithoutMemoryTellsAllAndTheyLiveOn) {
  const std::string expected = WholeRun();
  SetAll("kv", "4000000");
  Set(2, "memory", "300000000");
  StartRun();
  for (int rank = 0; rank < kRanks; ++rank) {
    EXPECT_THAT(EndOf(rank), StartsWith("error capacity rank=2 ")) << Transcripts();
  }
  SetAll("kv", "2048");
  Set(2, "memory", "0");
  EXPECT_EQ(WholeRun(), expected);
}

TEST_F(FailureMatrix, AStepWithoutMemoryFailsItsRequestAndNothingElse) {
  SetAll("answer", "300");
  const std::string expected = WholeRun();
  StartRun();
  for (const int victim : {0, 1, 2}) {
    ASSERT_TRUE(rank(0).LineWith("decode", kPatience)) << Transcripts();
    rank(victim).Signal(SIGUSR1);
    const std::optional<std::string> failed = rank(0).LineWith("failed", kBound);
    ASSERT_TRUE(failed) << Transcripts();
    const std::string place = std::to_string(victim);
    EXPECT_THAT(*failed, StartsWith("failed capacity rank=" + place + " stage=" + place + " step="))
        << Transcripts();
    EXPECT_THAT(*failed, ::testing::Not(::testing::HasSubstr("step=?")));
  }
  // The same engine, which has failed three times.
  EXPECT_EQ(rank(0).LineWith("ids", kPatience).value_or("nothing"), expected) << Transcripts();
  for (int rank = 0; rank < kRanks; ++rank) EXPECT_EQ(EndOf(rank), "ended") << Transcripts();
}

}  // namespace
}  // namespace xcomposer::testing
