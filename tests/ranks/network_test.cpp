// Whole processes on a network that delays, stalls, swallows, resets and goes away.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <functional>
#include <map>
#include <memory>
#include <random>
#include <thread>
#include <utility>

#include "ranks/rank_group.h"
#include "support/held_port.h"
#include "support/tcp_proxy.h"
#include "support/two_hosts.h"

namespace xcomposer::testing {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using Mode = TcpProxy::Mode;

constexpr int kRanks = 3;

/// Three ports in a row, below those that the system gives out by itself.
std::vector<HeldPort> HoldPorts() {
  std::mt19937 random(std::random_device{}());
  for (;;) {
    const auto first = static_cast<uint16_t>(20000 + random() % 10000);
    std::vector<HeldPort> ports;
    while (ports.size() < kRanks) {
      auto port = HeldPort::Try(static_cast<uint16_t>(first + ports.size()));
      if (!port) break;
      ports.push_back(*std::move(port));
    }
    if (ports.size() == kRanks) return ports;
  }
}

/// Three ranks with a proxy on the way from each to each other.
class Network : public RankGroup {
 protected:
  Network()
      : RankGroup(kRanks),
        ports_(HoldPorts()),
        first_port_(ports_.front().number()),
        expected_(WholeRun()) {
    for (int from = 0; from < kRanks; ++from) {
      for (int to = 0; to < kRanks; ++to) {
        if (to == from) continue;
        proxies_[{from, to}] = std::make_unique<TcpProxy>(static_cast<uint16_t>(first_port_ + to));
      }
    }
    for (int rank = 0; rank < kRanks; ++rank) Prepare(rank);
  }

  /// Tells the rank's process of its ports and of the proxies on its ways.
  void Prepare(int rank) {
    Set(rank, "bind_port", std::to_string(first_port_));
    for (const auto& [way, proxy] : proxies_) {
      if (way.first != rank) continue;
      Set(rank, "redirect",
          std::to_string(first_port_ + way.second) + "," + std::to_string(proxy->port()));
    }
  }

  /// Whether `to` has got a frame of `from`: more than what connections begin with.
  bool HasHeard(int to, int from) const {
    constexpr int64_t kGreeting = 128;
    return proxies_.at({from, to})->brought() > kGreeting;
  }

  /// Whether it comes to this, waited for.
  static bool Comes(const std::function<bool()>& event) {
    const auto until = steady_clock::now() + kBound;
    while (!event() && steady_clock::now() < until) std::this_thread::sleep_for(milliseconds(5));
    return event();
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
      SetWaysOf(victim, mode);
      for (int rank = 0; rank < kRanks; ++rank) {
        if (rank == victim) continue;
        ExpectNamed(rank, victim);
      }
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

  const std::vector<HeldPort> ports_;
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
  SetAll("connect_timeout", kFewSeconds);
  StartRun();
  for (const int rank : {0, 1}) ExpectNamed(rank, 2);
  EndOf(2);
  SetAllWays(Mode::kPass);
  SetAll("connect_timeout", kManySeconds);
  EXPECT_EQ(WholeRun(), expected_);
}

TEST_F(Network, ARankThatComesLateNamesTheLostOneAndNotThoseThatLeft) {
  for (const int victim : {1, 2}) {
    SCOPED_TRACE(victim);
    const int late = 3 - victim;
    for (auto& [way, proxy] : proxies_) proxy->Forget();
    StartRun({0, victim});
    ASSERT_TRUE(Comes([&] { return HasHeard(0, victim) && HasHeard(victim, 0); })) << Transcripts();
    rank(victim).Signal(SIGKILL);
    // Rank 0 knows: it listens no more for others.
    ASSERT_TRUE(Comes([&] { return !IsListenedOn("127.0.0.1", ports_[0].number()); }))
        << Transcripts();
    rank(late).Send("run " + place());
    ExpectNamed(0, victim);
    ExpectNamed(late, victim);
    Start(victim);
    Prepare(victim);
  }
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
