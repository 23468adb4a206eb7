// Whole processes on a network that delays, stalls, swallows, resets and goes away.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <random>
#include <thread>
#include <utility>

#include "ranks/rank_group.h"
#include "support/tcp_proxy.h"
#include "support/two_hosts.h"

namespace xcomposer::testing {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using Mode = TcpProxy::Mode;

constexpr int kRanks = 3;

/// A first port of three that nobody listens to, below those that the system gives out by itself.
int FreePorts() {
  std::mt19937 random(std::random_device{}());
  for (;;) {
    const int first = 20000 + static_cast<int>(random() % 10000);
    if (IsFreePort(first) && IsFreePort(first + 1) && IsFreePort(first + 2)) return first;
  }
}

/// Three ranks with a proxy on the way from each to each other.
class Network : public RankGroup {
 protected:
  Network() : RankGroup(kRanks), first_port_(FreePorts()), expected_(WholeRun()) {
    SetAll("bind_port", std::to_string(first_port_));
    for (int from = 0; from < kRanks; ++from) {
      for (int to = 0; to < kRanks; ++to) {
        if (to == from) continue;
        auto proxy = std::make_unique<TcpProxy>(static_cast<uint16_t>(first_port_ + to));
        Set(from, "redirect",
            std::to_string(first_port_ + to) + "," + std::to_string(proxy->port()));
        proxies_[{from, to}] = std::move(proxy);
      }
    }
  }

  /// All ways to and from the rank.
  void SetWaysOf(int rank, Mode mode) {
    for (auto& [way, proxy] : proxies_) {
      if (way.first == rank || way.second == rank) proxy->Set(mode);
    }
  }
  void SetAllWays(Mode mode) {
    for (auto& [way, proxy] : proxies_) proxy->Set(mode);
  }
  void SetDelay(milliseconds delay) {
    for (auto& [way, proxy] : proxies_) proxy->SetDelay(delay);
  }

  /// In the middle of the answer the network does this to one rank; the others name it, and all run
  /// again once it is over.
  void ExpectLost(Mode mode, const std::vector<int>& victims) {
    for (const int victim : victims) {
      SCOPED_TRACE("rank " + std::to_string(victim));
      SetAll("answer", "1000");
      StartRun();
      ASSERT_TRUE(rank(0).LineWith("decode", kPatience)) << Transcripts();
      const auto begin = steady_clock::now();
      SetWaysOf(victim, mode);
      for (int rank = 0; rank < kRanks; ++rank) {
        if (rank == victim) continue;
        ExpectNamed(rank, victim);
      }
      EXPECT_LT(steady_clock::now() - begin, milliseconds(10'000));
      EXPECT_EQ(EndOf(victim).rfind("error rank rank=", 0), 0U) << Transcripts();
      SetAllWays(Mode::kPass);
    }
    SetAll("answer", "40");
    EXPECT_EQ(WholeRun(), expected_);
    for (const auto& [way, proxy] : proxies_) EXPECT_GT(proxy->accepted(), 0);
  }

  std::vector<int> Victims() const {
    return Full() ? std::vector<int>{0, 1, 2} : std::vector<int>{1};
  }

  const int first_port_;
  const std::string expected_;
  std::map<std::pair<int, int>, std::unique_ptr<TcpProxy>> proxies_;  // by from and to
};

TEST_F(Network, ABlackHoleIsALoss) { ExpectLost(Mode::kBlackHole, Victims()); }

TEST_F(Network, AStallIsALoss) { ExpectLost(Mode::kStall, Victims()); }

TEST_F(Network, AResetIsALoss) { ExpectLost(Mode::kReset, Full() ? Victims() : std::vector{2}); }

TEST_F(Network, TwoSecondsOfDelayAreNoLoss) {
  SetAll("timeout", "6");
  StartRun();
  ASSERT_TRUE(rank(0).LineWith("prefill", kPatience)) << Transcripts();
  SetDelay(milliseconds(2000));
  std::this_thread::sleep_for(milliseconds(3000));
  SetDelay(milliseconds(0));
  EXPECT_EQ(rank(0).LineWith("ids", kPatience).value_or("nothing"), expected_) << Transcripts();
  for (int rank = 0; rank < kRanks; ++rank) EXPECT_EQ(EndOf(rank), "ended") << Transcripts();
}

TEST_F(Network, ABlackHoleWhileTheyMeetIsALoss) {
  SetWaysOf(2, Mode::kBlackHole);
  StartRun();
  for (const int rank : {0, 1}) ExpectNamed(rank, 2);
  EndOf(2);
  SetAllWays(Mode::kPass);
  EXPECT_EQ(WholeRun(), expected_);
}

/// Two ranks in network namespaces as hosts.
class Hosts : public RankGroup {
 protected:
  Hosts() : RankGroup(2) {}
};

TEST_F(Hosts, ALinkThatGoesDownIsALossAndTheyRunAgainWhenItIsUp) {
  const std::string expected = WholeRun();
  const TwoHosts hosts;
  if (!hosts.made()) GTEST_SKIP() << "network namespaces cannot be made here (root, iproute2)";
  for (int rank = 0; rank < 2; ++rank) {
    Start(rank, {"ip", "netns", "exec", hosts.name(rank)});
    Set(rank, "secret", "a secret of more than sixteen bytes");
  }
  host_ = TwoHosts::Address(0);
  for (const bool again : {false, true}) {
    SCOPED_TRACE(again);
    SetAll("answer", "1000");
    StartRun();
    ASSERT_TRUE(rank(0).LineWith("decode", kPatience)) << Transcripts();
    ASSERT_TRUE(hosts.SetLink(false));
    for (int rank = 0; rank < 2; ++rank) ExpectNamed(rank, 1 - rank);
    ASSERT_TRUE(hosts.SetLink(true));
    SetAll("answer", "40");
    EXPECT_EQ(WholeRun(), expected);
  }
}

}  // namespace
}  // namespace xcomposer::testing
