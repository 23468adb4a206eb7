#include "transport/rendezvous.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <future>
#include <thread>

#include "transport/addresses.h"
#include "transport/memory_store.h"
#include "transport/rank_group.h"

namespace xcomposer {
namespace {

using std::chrono::milliseconds;

// --- The store's content is bytes from outside
// -------------------------------------------------------

// What rank 1 of 2 makes of a store that holds this.
Error RankOneThrows(const std::shared_ptr<Store>& store) {
  std::vector<RendezvousOptions> ranks = {LoopbackRanks(2)[1]};
  std::vector<Outcome> outcomes = Meet(ranks, store, In(milliseconds(300)));
  return outcomes[0].error.value_or(Error(ErrorKind::kInternal, "nothing was thrown"));
}

const char* const kNonce = "00112233445566778899aabbccddeeff";

TEST(Rendezvous, AHostileNonceIsRefused) {
  for (const std::string& bad :
       {std::string(), std::string("0011"), std::string(33, '0'), std::string(32, 'G'),
        std::string(31, '0') + '\0', std::string(1 << 20, 'a')}) {
    const auto store = std::make_shared<MemoryStore>();
    store->Set("nonce", bad);
    EXPECT_EQ(RankOneThrows(store).kind(), ErrorKind::kTransport) << bad.size();
  }
}

TEST(Rendezvous, AHostileEndpointIsRefused) {
  for (const std::string& bad :
       {std::string(), std::string("tcp://localhost:5"), std::string("ipc:///tmp/x"),
        std::string("tcp://127.0.0.1:5;tcp://127.0.0.2:6"), std::string("tcp://127.0.0.1:*"),
        std::string(100000, 't')}) {
    const auto store = std::make_shared<MemoryStore>();
    store->Set("nonce", kNonce);
    store->Set("endpoint/0", bad);
    const Error error = RankOneThrows(store);
    EXPECT_EQ(error.kind(), ErrorKind::kTransport) << bad.substr(0, 40);
    EXPECT_EQ(error.where().at("rank"), "0");
  }
}

TEST(Rendezvous, AnEndpointOfAnotherMachineNeedsASecret) {
  const auto store = std::make_shared<MemoryStore>();
  store->Set("nonce", kNonce);
  store->Set("endpoint/0", "tcp://10.1.2.3:5000");
  const Error error = RankOneThrows(store);
  EXPECT_EQ(error.kind(), ErrorKind::kUsage);
  EXPECT_EQ(error.where().at("address"), "10.1.2.3");
}

TEST(Rendezvous, ARankThatDoesNotAppearIsNamed) {
  const Error without_zero = RankOneThrows(std::make_shared<MemoryStore>());
  EXPECT_EQ(without_zero.kind(), ErrorKind::kRank);
  EXPECT_EQ(without_zero.where().at("rank"), "0");

  std::vector<RendezvousOptions> ranks = LoopbackRanks(3);
  ranks.pop_back();
  for (const Outcome& outcome :
       Meet(ranks, std::make_shared<MemoryStore>(), In(milliseconds(500)))) {
    ASSERT_TRUE(outcome.error.has_value());
    EXPECT_EQ(outcome.error->kind(), ErrorKind::kRank);
    EXPECT_EQ(outcome.error->where().at("rank"), "2") << outcome.error->what();
  }
}

TEST(Rendezvous, TwoProcessesOfOneRankAreFound) {
  std::vector<RendezvousOptions> ranks = LoopbackRanks(2);
  ranks.push_back(ranks[1]);
  const std::vector<Outcome> outcomes = Meet(ranks, std::make_shared<MemoryStore>());
  EXPECT_FALSE(outcomes[0].error.has_value());
  const std::optional<Error>& loser = outcomes[1].error ? outcomes[1].error : outcomes[2].error;
  ASSERT_TRUE(loser.has_value());
  EXPECT_EQ(loser->kind(), ErrorKind::kRank);
  EXPECT_EQ(loser->where().at("rank"), "1");
  EXPECT_NE(std::string(loser->what()).find("two processes"), std::string::npos);
}

TEST(Rendezvous, RanksOfDifferentWorldSizesAreNamed) {
  std::vector<RendezvousOptions> ranks = LoopbackRanks(2);
  ranks[1].world_size = 3;
  const std::vector<Outcome> outcomes =
      Meet(ranks, std::make_shared<MemoryStore>(), In(milliseconds(1000)));
  for (const Outcome& outcome : outcomes) EXPECT_TRUE(outcome.error.has_value());
}

// A store whose keeper is stopped.
class StoppedStore : public MemoryStore {
 public:
  std::optional<std::string> TryGet(const std::string& key) override {
    stopped_.wait();
    return MemoryStore::TryGet(key);
  }
  void Continue() { continue_.set_value(); }

 private:
  std::promise<void> continue_;
  std::shared_future<void> stopped_ = continue_.get_future().share();
};

TEST(Rendezvous, AStoreThatDoesNotAnswerHoldsNobody) {
  const auto store = std::make_shared<StoppedStore>();
  const Error error = RankOneThrows(store);
  EXPECT_EQ(error.kind(), ErrorKind::kRank);
  EXPECT_EQ(error.where().at("rank"), "0");
  store->Continue();
}

// A store whose keeper died.
class BrokenStore : public MemoryStore {
 public:
  std::optional<std::string> TryGet(const std::string& /*key*/) override {
    throw Error(ErrorKind::kTransport, "connection reset");
  }
};

TEST(Rendezvous, AStoreThatBreaksIsTheLossOfItsRank) {
  const Error error = RankOneThrows(std::make_shared<BrokenStore>());
  EXPECT_EQ(error.kind(), ErrorKind::kRank);
  EXPECT_EQ(error.where().at("rank"), "0");
}

TEST(Rendezvous, EachRunInASharedStoreHasItsOwnKeys) {
  const auto store = std::make_shared<MemoryStore>();
  for (const char* prefix : {"run/0/", "run/1/"}) {
    std::vector<RendezvousOptions> ranks = LoopbackRanks(2);
    for (RendezvousOptions& rank : ranks) rank.prefix = prefix;
    for (const Outcome& outcome : Meet(ranks, store)) {
      EXPECT_FALSE(outcome.error.has_value()) << outcome.error->what();
    }
  }
}

// --- Addresses
// -----------------------------------------------------------------------------------------

TEST(Addresses, OnlyExactEndpointsAreRead) {
  EXPECT_EQ(AddressOfEndpoint("tcp://127.0.0.1:1"), "127.0.0.1");
  EXPECT_EQ(AddressOfEndpoint("tcp://[fd00::1]:65535"), "fd00::1");
  for (const std::string& bad :
       {std::string("tcp://127.0.0.1"), std::string("tcp://127.0.0.1:"),
        std::string("tcp://127.0.0.1:0"), std::string("tcp://127.0.0.1:65536"),
        std::string("tcp://127.0.0.1:1 "), std::string("tcp://127.1:1"),
        std::string("tcp://fd00::1:1"), std::string("tcp://[127.0.0.1]:1"),
        std::string("tcp://[fe80::1%eth0]:1"), std::string("udp://127.0.0.1:1"),
        std::string("tcp://"), std::string("tcp://:1"), std::string("tcp://[]:1"),
        std::string("tcp://127.0.0.1\0.evil:1", 23)}) {
    EXPECT_EQ(AddressOfEndpoint(bad), "") << bad;
  }
}

TEST(Addresses, Loopback) {
  for (const char* yes : {"127.0.0.1", "127.255.255.254", "::1", "::ffff:127.0.0.1"}) {
    EXPECT_TRUE(IsLoopback(yes)) << yes;
  }
  for (const char* no : {"128.0.0.1", "0.0.0.0", "10.0.0.1", "::", "::ffff:10.0.0.1", "fd00::1",
                         "localhost", "", "127.0.0"}) {
    EXPECT_FALSE(IsLoopback(no)) << no;
  }
}

TEST(Addresses, TheWayToLoopbackIsLoopback) {
  EXPECT_EQ(LocalAddressTowards("127.0.0.1", 9), "127.0.0.1");
  EXPECT_EQ(ResolveHost("127.0.0.1"), "127.0.0.1");
  EXPECT_THROW(ResolveHost("no.such.host.invalid"), Error);
  EXPECT_THROW(LocalAddressTowards("nonsense", 9), Error);
}

TEST(Addresses, ASocketListensOnItsOwnAddressOnly) {
  const SocketHandle listener = ListenOn("127.0.0.1", 0);
  sockaddr_storage bound{};
  socklen_t size = sizeof(bound);
  ASSERT_EQ(getsockname(listener.fd(), reinterpret_cast<sockaddr*>(&bound), &size), 0);
  const auto* v4 = reinterpret_cast<const uint8_t*>(&bound);
  const auto port = static_cast<uint16_t>(v4[2] << 8 | v4[3]);
  EXPECT_TRUE(WaitForListener("127.0.0.1", port, Soon()));
  EXPECT_FALSE(WaitForListener("127.0.0.2", port, In(milliseconds(50))));
  try {
    ListenOn("127.0.0.1", port);
    FAIL() << "two listen on one port";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kTransport);
    EXPECT_EQ(error.where().count("address"), 1U);
  }
}

// --- Calls without a deadline
// --------------------------------------------------------------------------

TEST(DeadlineWorker, ReturnsThrowsAndGivesUp) {
  std::promise<void> release;
  {
    DeadlineWorker worker;
    int value = 0;
    EXPECT_TRUE(worker.Run([&] { value = 7; }, Soon()));
    EXPECT_EQ(value, 7);
    EXPECT_THROW(worker.Run([] { throw Error(ErrorKind::kUsage, "thrown"); }, Soon()), Error);
    EXPECT_TRUE(worker.Run([] {}, Soon()));
    const std::shared_future<void> released = release.get_future().share();
    EXPECT_FALSE(worker.Run([released] { released.wait(); }, In(milliseconds(10))));
    EXPECT_FALSE(worker.Run([] {}, Soon()));
  }  // does not wait for the call that hangs
  release.set_value();
}

// --- Secrets
// ---------------------------------------------------------------------------------------------

class SecretFile {
 public:
  explicit SecretFile(const std::string& text)
      : path_(::testing::TempDir() + "xcomposer_secret_" + std::to_string(getpid())) {
    std::ofstream(path_, std::ios::binary) << text;
  }
  ~SecretFile() { std::remove(path_.c_str()); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

std::string TextOf(const Secret& secret) {
  return {reinterpret_cast<const char*>(secret.bytes().data()), secret.bytes().size()};
}

TEST(SecretOfTheRun, AFileBeforeTheEnvironmentWithoutItsLineEnd) {
  const SecretFile file("from the file: long enough\r\n");
  const std::map<std::string, std::string> environment = {
      {"XCOMPOSER_SECRET", "from the environment: long enough"}};
  EXPECT_EQ(TextOf(*ReadSecret(file.path(), environment)), "from the file: long enough");
  EXPECT_EQ(TextOf(*ReadSecret(std::nullopt, environment)), "from the environment: long enough");
  EXPECT_FALSE(ReadSecret(std::nullopt, {}).has_value());
}

TEST(SecretOfTheRun, ShortLongAndUnreadableOnesAreRefused) {
  EXPECT_THROW(Secret("fifteen bytes.."), Error);
  EXPECT_THROW(Secret("fifteen bytes..    \n"), Error);
  EXPECT_NO_THROW(Secret("sixteen bytes..."));
  EXPECT_THROW(Secret(std::string(4097, 'x')), Error);
  for (const std::string& text : {std::string(), std::string("short"), std::string(9000, 'x')}) {
    const SecretFile file(text);
    try {
      ReadSecret(file.path(), {});
      FAIL() << text.size();
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kUsage);
      EXPECT_EQ(error.where().at("file"), file.path());
    }
  }
  EXPECT_THROW(ReadSecret("/no/such/file", {}), Error);
  EXPECT_THROW(ReadSecret(std::nullopt, {{"XCOMPOSER_SECRET", "short"}}), Error);
}

}  // namespace
}  // namespace xcomposer
