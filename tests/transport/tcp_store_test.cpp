// Ranks that meet at the real store, in threads of one process.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <atomic>
#include <thread>

#include "support/held_port.h"
#include "transport/addresses.h"
#include "transport/connect.h"
#include "transport/rank_group.h"
#include "transport/store.h"

namespace xcomposer {
namespace {

using std::chrono::milliseconds;

uint16_t PortOf(const SocketHandle& socket) {
  sockaddr_in address{};
  socklen_t size = sizeof(address);
  EXPECT_EQ(getsockname(socket.fd(), reinterpret_cast<sockaddr*>(&address), &size), 0);
  return ntohs(address.sin_port);
}

Launch At(int rank, int world_size, uint16_t port, const std::string& host = "127.0.0.1") {
  Launch launch;
  launch.launcher = Launcher::kFlags;
  launch.rank = rank;
  launch.world_size = world_size;
  launch.host = host;
  launch.port = port;
  return launch;
}

TransportOptions Options(milliseconds patience = milliseconds(20000)) {
  TransportOptions options;
  options.rank_timeout = milliseconds(3000);
  options.connect_timeout = patience;
  return options;
}

std::vector<Outcome> Connect(const std::vector<Launch>& launches,
                             const std::optional<Secret>& secret, const TransportOptions& options) {
  std::vector<Outcome> outcomes(launches.size());
  std::vector<std::thread> threads;
  for (size_t i = 0; i < launches.size(); ++i) {
    threads.emplace_back([&, i] {
      try {
        outcomes[i].transport = ConnectRanks(launches[i], secret, options);
      } catch (const Error& error) {
        outcomes[i].error = error;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return outcomes;
}

void ExpectConnected(const std::vector<Outcome>& outcomes) {
  for (const Outcome& outcome : outcomes) {
    ASSERT_FALSE(outcome.error.has_value()) << outcome.error->what();
  }
  SendText(*outcomes.back().transport, 0, Channel::kControl, "met");
  const int last = static_cast<int>(outcomes.size()) - 1;
  EXPECT_TRUE(outcomes[0].transport->Receive(last, Channel::kControl, Soon()).has_value());
}

TEST(TcpStore, RanksMeetAndMeetAgainAtTheSamePlace) {
  const HeldPort held;
  const uint16_t port = held.number();
  for (int run = 0; run < 2; ++run) {
    ExpectConnected(Connect({At(0, 3, port), At(1, 3, port), At(2, 3, port)},
                            Secret("a secret of more than sixteen bytes"), Options()));
  }
}

TEST(TcpStore, ARankThatIsAskedToEndDoesNotWaitForAStore) {
  for (const int rank : {0, 1}) {
    std::atomic<int> asked{0};
    TransportOptions options = Options(std::chrono::minutes(1));
    options.stop = [&] { return ++asked > 2; };  // not the first time: while it waits
    const HeldPort held;
    const TimePoint until = In(options.connect_timeout);
    const auto outcomes = Connect({At(rank, 2, held.number())}, std::nullopt, options);
    EXPECT_LT(std::chrono::steady_clock::now(), until);
    ASSERT_TRUE(outcomes[0].error.has_value());
    EXPECT_EQ(outcomes[0].error->kind(), ErrorKind::kCancelled) << outcomes[0].error->what();
  }
}

TEST(TcpStore, ListensOnTheGivenAddressOnly) {
  const HeldPort held("127.0.0.7");
  const uint16_t port = held.number();
  std::optional<Outcome> zero;
  std::thread thread([&] {
    zero = std::move(Connect({At(0, 2, port, "127.0.0.7")}, std::nullopt, Options())[0]);
  });
  EXPECT_TRUE(WaitForListener("127.0.0.7", port, Soon()));
  EXPECT_FALSE(WaitForListener("127.0.0.1", port, In(milliseconds(100))));
  Outcome one = std::move(Connect({At(1, 2, port, "127.0.0.7")}, std::nullopt, Options())[0]);
  thread.join();
  EXPECT_FALSE(zero->error.has_value());
  EXPECT_FALSE(one.error.has_value());
  // Met: the store is gone, so that nobody else can reach it.
  EXPECT_FALSE(WaitForListener("127.0.0.7", port, In(milliseconds(100))));
}

TEST(TcpStore, TorchrunsAgentKeepsTheStoreForEveryRank) {
  SocketHandle listener = ListenOn("127.0.0.1", 0);
  TcpStoreOptions keeper;
  keeper.address = "127.0.0.1";
  keeper.port = PortOf(listener);
  keeper.listening_socket = listener.Release();
  const std::shared_ptr<Store> agent = OpenTcpStore(keeper);
  for (const char* run : {"job/0", "job/1"}) {  // a restart comes back to the same store
    std::vector<Launch> launches = {At(0, 2, keeper.port), At(1, 2, keeper.port)};
    for (Launch& launch : launches) {
      launch.agent_store = true;
      launch.run_id = run;
    }
    ExpectConnected(Connect(launches, std::nullopt, Options()));
  }
}

TEST(TcpStore, WithoutRankZeroItsPlaceIsNamed) {
  const HeldPort held;
  const uint16_t port = held.number();
  TransportOptions options = Options(milliseconds(1000));
  // How long a rank may be silent does not matter: this one was never there.
  options.rank_timeout = std::chrono::hours(1);
  options.stop = [until = Soon()] { return std::chrono::steady_clock::now() > until; };
  const Outcome outcome = std::move(Connect({At(1, 2, port)}, std::nullopt, options)[0]);
  ASSERT_TRUE(outcome.error.has_value());
  EXPECT_EQ(outcome.error->kind(), ErrorKind::kRank);
  EXPECT_EQ(outcome.error->where().at("rank"), "0");
  EXPECT_EQ(outcome.error->where().at("address"), "127.0.0.1:" + std::to_string(port));
}

TEST(TcpStore, WhatListensButIsNoStoreHoldsNobody) {
  const SocketHandle silent = ListenOn("127.0.0.1", 0);
  const Outcome outcome =
      std::move(Connect({At(1, 2, PortOf(silent))}, std::nullopt, Options(milliseconds(1000)))[0]);
  ASSERT_TRUE(outcome.error.has_value());
  EXPECT_EQ(outcome.error->kind(), ErrorKind::kRank) << outcome.error->what();
  EXPECT_EQ(outcome.error->where().at("rank"), "0");
}

TEST(TcpStore, TwoRankZerosAreFound) {
  const SocketHandle taken = ListenOn("127.0.0.1", 0);
  const Outcome outcome = std::move(Connect({At(0, 2, PortOf(taken))}, std::nullopt, Options())[0]);
  ASSERT_TRUE(outcome.error.has_value());
  EXPECT_EQ(outcome.error->kind(), ErrorKind::kTransport);
  EXPECT_NE(std::string(outcome.error->what()).find("cannot listen"), std::string::npos);
}

TEST(TcpStore, ARankTimeoutThatNobodyCanKeepIsRefused) {
  for (const milliseconds bad : {milliseconds(-1), milliseconds(0), milliseconds(99),
                                 milliseconds(std::chrono::hours(25))}) {
    TransportOptions options = Options();
    options.rank_timeout = bad;
    const Outcome outcome = std::move(Connect({At(1, 2, 1)}, std::nullopt, options)[0]);
    ASSERT_TRUE(outcome.error.has_value());
    EXPECT_EQ(outcome.error->kind(), ErrorKind::kUsage);
  }
}

TEST(TcpStore, APlaceThatOthersReachNeedsASecret) {
  for (const int rank : {0, 1}) {
    const Outcome outcome =
        std::move(Connect({At(rank, 2, 29500, "192.0.2.1")}, std::nullopt, Options())[0]);
    ASSERT_TRUE(outcome.error.has_value());
    EXPECT_EQ(outcome.error->kind(), ErrorKind::kUsage);
    EXPECT_EQ(outcome.error->where().at("address"), "192.0.2.1");
  }
}

TEST(TcpStore, AnAddressToListenOnThatOthersReachNeedsASecretBeforeAnythingIsOpened) {
  const HeldPort held;  // where nobody listens: a rank that went there first would tell that
  for (const int rank : {0, 1}) {
    TransportOptions options = Options();
    options.bind_address = "192.0.2.1";
    const auto outcomes = Connect({At(rank, 2, held.number())}, std::nullopt, options);
    ASSERT_TRUE(outcomes[0].error.has_value());
    EXPECT_EQ(outcomes[0].error->kind(), ErrorKind::kUsage) << outcomes[0].error->what();
    EXPECT_EQ(outcomes[0].error->where().at("address"), "192.0.2.1");
  }
}

}  // namespace
}  // namespace xcomposer
