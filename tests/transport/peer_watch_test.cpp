#include "transport/peer_watch.h"

#include <gtest/gtest.h>

#include <thread>

namespace xcomposer {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

const TimePoint kStart{seconds(1000)};

// Rank 0 of 3 that watches two ranks it has heard of.
class Watch : public ::testing::Test {
 protected:
  Watch() {
    for (const int rank : {1, 2}) {
      watch_.Added(rank, "tcp://127.0.0.1:7");
      watch_.Heard(rank, 0, 0, kStart);
    }
  }

  // As the service thread does it: every beat, with both ranks heard unless they are silent.
  std::optional<Error> RunUntil(TimePoint end, int silent = -1) {
    for (; now_ < end; now_ += watch_.beat()) {
      for (const int rank : {1, 2}) {
        if (rank != silent) watch_.Heard(rank, 0, 0, now_);
      }
      if (std::optional<Error> lost = watch_.Judge(now_)) return lost;
    }
    return std::nullopt;
  }

  PeerWatch watch_{0, 3, seconds(10)};
  TimePoint now_ = kStart;
};

TEST_F(Watch, WhoIsHeardOfLives) { EXPECT_FALSE(RunUntil(kStart + seconds(100)).has_value()); }

TEST_F(Watch, WhoIsSilentForTheBoundIsLostAndNotBefore) {
  watch_.Heard(2, 4, 17, kStart);
  EXPECT_FALSE(RunUntil(kStart + seconds(9), 2).has_value());
  const std::optional<Error> lost = RunUntil(kStart + seconds(20), 2);
  ASSERT_TRUE(lost.has_value());
  EXPECT_LE(now_, kStart + seconds(10));
  EXPECT_EQ(lost->kind(), ErrorKind::kRank);
  EXPECT_EQ(lost->where().at("rank"), "2");
  EXPECT_EQ(lost->where().at("stage"), "4");
  EXPECT_EQ(lost->where().at("step"), "17");
}

TEST_F(Watch, ADelayBelowTheBoundIsNoLoss) {
  EXPECT_FALSE(RunUntil(kStart + seconds(8), 1).has_value());
  EXPECT_FALSE(RunUntil(kStart + seconds(40)).has_value());
}

TEST_F(Watch, TheTimeInWhichThisProcessWasStoppedIsNobodysSilence) {
  EXPECT_FALSE(RunUntil(kStart + seconds(5)).has_value());
  now_ += seconds(60);  // SIGSTOP, SIGCONT
  EXPECT_FALSE(watch_.Judge(now_).has_value());
  // But a rank that went meanwhile is still found.
  EXPECT_FALSE(RunUntil(now_ + seconds(8), 1).has_value());
  const std::optional<Error> lost = RunUntil(now_ + seconds(20), 1);
  ASSERT_TRUE(lost.has_value());
  EXPECT_EQ(lost->where().at("rank"), "1");
}

TEST_F(Watch, AClosedConnectionIsJudgedAfterAMomentForItsReason) {
  watch_.Saw({LinkEvent::Kind::kClosed, 1}, kStart);
  EXPECT_FALSE(watch_.Judge(kStart + milliseconds(499)).has_value());
  EXPECT_EQ(watch_.NextJudgement(kStart), kStart + milliseconds(500));
  const std::optional<Error> lost = watch_.Judge(kStart + milliseconds(500));
  ASSERT_TRUE(lost.has_value());
  EXPECT_EQ(lost->where().at("rank"), "1");
  EXPECT_NE(std::string(lost->what()).find("closed"), std::string::npos);
}

TEST_F(Watch, LaterStepsCountWhateverArrivesLast) {
  watch_.Heard(1, 2, 9, kStart);
  watch_.Heard(1, 1, 8, kStart);  // overtaken
  const Error lost = watch_.Lost(1, "test");
  EXPECT_EQ(lost.where().at("step"), "9");
  EXPECT_EQ(lost.where().at("stage"), "2");
}

TEST(PeerWatch, ARankWithAnotherKeyIsNamed) {
  PeerWatch watch(1, 3, seconds(10));
  watch.Added(2, "tcp://127.0.0.1:9");
  EXPECT_FALSE(watch.Judge(kStart).has_value());
  watch.Saw({LinkEvent::Kind::kRefused, 2}, kStart);
  const std::optional<Error> refused = watch.Judge(kStart);
  ASSERT_TRUE(refused.has_value());
  EXPECT_EQ(refused->kind(), ErrorKind::kTransport);
  EXPECT_EQ(refused->where().at("rank"), "2");
  EXPECT_EQ(refused->where().at("field"), "secret");
}

TEST(PeerWatch, AnotherKeyExplainsMoreThanClosedConnections) {
  PeerWatch watch(0, 3, seconds(10));
  watch.Heard(1, 0, 0, kStart);
  watch.Saw({LinkEvent::Kind::kClosed, 1}, kStart);
  watch.Saw({LinkEvent::Kind::kRefused, 2}, kStart + seconds(1));
  EXPECT_EQ(watch.Judge(kStart + seconds(1))->where().at("rank"), "2");
}

TEST(PeerWatch, WhoWasNeverHeardOfIsNotSilent) {
  PeerWatch watch(0, 2, seconds(1));
  watch.Added(1, "tcp://127.0.0.1:9");
  for (int i = 0; i < 100; ++i) {
    EXPECT_FALSE(watch.Judge(kStart + i * watch.beat()).has_value());
  }
}

TEST(PeerWatch, MissingRanksAreNamedWithWhatIsKnownOfThem) {
  PeerWatch watch(0, 4, seconds(1));
  watch.Heard(1, 0, 0, kStart);
  watch.SaidHello(1);
  watch.Added(2, "tcp://10.0.0.9:1");
  const Error missing = watch.MissingHellos(kStart).value();
  EXPECT_EQ(missing.kind(), ErrorKind::kRank);
  // Rank 2 was there a moment ago; of rank 3 nobody knows anything.
  EXPECT_EQ(missing.where().at("rank"), "3");
  const std::string text = missing.what();
  EXPECT_NE(text.find("rank 2 at tcp://10.0.0.9:1 (not reached"), std::string::npos) << text;
  EXPECT_NE(text.find("rank 3 (never appeared"), std::string::npos) << text;
  EXPECT_EQ(text.find("rank 1"), std::string::npos) << text;
}

// Rank 0 of 4 while the ranks meet.
class Meeting : public ::testing::Test {
 protected:
  Meeting() {
    for (const int rank : {1, 2, 3}) watch_.Added(rank, "tcp://127.0.0.1:1");
  }
  void HeardOf(std::initializer_list<int> ranks, TimePoint now) {
    for (const int rank : ranks) watch_.Heard(rank, 0, 0, now);
  }
  std::string Named(TimePoint now) { return watch_.MissingHellos(now)->where().at("rank"); }

  PeerWatch watch_{0, 4, seconds(10)};
};

TEST_F(Meeting, WhoWaitsForOthersIsNotTheOneThatIsMissing) {
  HeardOf({1, 2}, kStart);
  EXPECT_EQ(Named(kStart), "3");
  HeardOf({3}, kStart);
  EXPECT_TRUE(watch_.AllSeemAlive(kStart));
  EXPECT_EQ(Named(kStart), "1");  // for want of anything better
}

TEST_F(Meeting, NobodyIsMissingOnceAllHaveSaidHello) {
  HeardOf({1, 2, 3}, kStart);
  for (const int rank : {1, 2, 3}) watch_.SaidHello(rank);
  EXPECT_FALSE(watch_.MissingHellos(kStart).has_value());  // the last came as time was up
}

TEST_F(Meeting, WhoFellSilentAfterItsHelloIsTheCauseAndNotWhoWaitsForIt) {
  HeardOf({1, 2, 3}, kStart);
  watch_.SaidHello(3);
  HeardOf({1, 2}, kStart + seconds(4));  // rank 3 was stopped; 1 and 2 ask its store
  EXPECT_FALSE(watch_.AllSeemAlive(kStart + seconds(4)));
  const Error missing = watch_.MissingHellos(kStart + seconds(4)).value();
  EXPECT_EQ(missing.where().at("rank"), "3") << missing.what();
  EXPECT_NE(std::string(missing.what()).find("fallen silent"), std::string::npos);
}

TEST_F(Meeting, OfTwoThatAreGoneTheFirstIsTheCause) {
  HeardOf({1, 2, 3}, kStart);
  watch_.Saw({LinkEvent::Kind::kClosed, 3}, kStart);
  watch_.Saw({LinkEvent::Kind::kClosed, 1}, kStart + milliseconds(100));
  const std::optional<Error> lost = watch_.Judge(kStart + seconds(1));
  ASSERT_TRUE(lost.has_value());
  EXPECT_EQ(lost->where().at("rank"), "3");
  EXPECT_EQ(Named(kStart + seconds(1)), "3");
}

TEST_F(Meeting, WhoCannotBeReachedWasGoneBeforeWhoLeavesLater) {
  HeardOf({1, 2}, kStart);
  watch_.Saw({LinkEvent::Kind::kUnreachable, 3}, kStart);
  watch_.Saw({LinkEvent::Kind::kUnreachable, 3}, kStart + seconds(2));
  // By itself that is no proof: the connect timeout decides.
  EXPECT_FALSE(watch_.Judge(kStart + seconds(1)).has_value());
  watch_.Saw({LinkEvent::Kind::kClosed, 1}, kStart + seconds(1));
  const std::optional<Error> lost = watch_.Judge(kStart + seconds(2));
  ASSERT_TRUE(lost.has_value());
  EXPECT_EQ(lost->where().at("rank"), "3") << lost->what();
}

TEST_F(Meeting, WhoIsReachedInTheEndIsNotSuspected) {
  HeardOf({1, 2, 3}, kStart);
  watch_.Saw({LinkEvent::Kind::kUnreachable, 3}, kStart);
  watch_.Saw({LinkEvent::Kind::kReached, 3}, kStart);
  watch_.Saw({LinkEvent::Kind::kClosed, 1}, kStart + milliseconds(10));
  EXPECT_EQ(watch_.Judge(kStart + seconds(1))->where().at("rank"), "1");
}

TEST(PeerWatch, HellosEndTheWait) {
  PeerWatch watch(0, 2, seconds(1));
  EXPECT_FALSE(watch.WaitForHellos(std::chrono::steady_clock::now()));
  std::thread other([&] { watch.SaidHello(1); });
  EXPECT_TRUE(watch.WaitForHellos(std::chrono::steady_clock::now() + seconds(20)));
  other.join();
  watch.Close();
  EXPECT_FALSE(watch.WaitForHellos(std::chrono::steady_clock::now() + seconds(20)));
}

TEST(PeerWatch, BeatsAreATenthOfTheBound) {
  EXPECT_EQ(PeerWatch(0, 2, seconds(10)).beat(), seconds(1));
  EXPECT_EQ(PeerWatch(0, 2, milliseconds(500)).beat(), milliseconds(50));
  EXPECT_EQ(PeerWatch(0, 2, seconds(600)).beat(), seconds(1));
  EXPECT_EQ(PeerWatch(0, 2, milliseconds(1)).beat(), milliseconds(5));
}

}  // namespace
}  // namespace xcomposer
