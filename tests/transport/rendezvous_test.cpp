#include "transport/rendezvous.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <deque>
#include <fstream>
#include <future>
#include <map>
#include <mutex>
#include <thread>

#include "transport/addresses.h"
#include "transport/loss_notice.h"
#include "transport/memory_store.h"
#include "transport/rank_group.h"

namespace xcomposer {
namespace {

using std::chrono::milliseconds;

// --- The store's content is bytes from outside
// -------------------------------------------------------

// What rank 1 of 2 makes of a store that holds this. `until` ends what nothing else does.
Error RankOneThrows(const std::shared_ptr<Store>& store, TimePoint until = Soon()) {
  std::vector<RendezvousOptions> ranks = {LoopbackRanks(2)[1]};
  std::vector<Outcome> outcomes = Meet(ranks, store, until);
  return outcomes[0].error.value_or(Error(ErrorKind::kInternal, "nothing was thrown"));
}

const char* const kNonce = "00112233445566778899aabbccddeeff";

TEST(Rendezvous, ARankThatIsAskedToEndDoesNotWaitForOthers) {
  for (const int rank : {0, 1}) {
    std::vector<RendezvousOptions> ranks = {LoopbackRanks(2)[static_cast<size_t>(rank)]};
    std::atomic<int> asked{0};
    ranks[0].transport.stop = [&] { return ++asked > 3; };
    const TimePoint until = In(std::chrono::minutes(1));
    const std::vector<Outcome> outcomes = Meet(ranks, std::make_shared<MemoryStore>(), until);
    EXPECT_LT(std::chrono::steady_clock::now(), until);
    ASSERT_TRUE(outcomes[0].error.has_value()) << rank;
    EXPECT_EQ(outcomes[0].error->kind(), ErrorKind::kCancelled) << outcomes[0].error->what();
    EXPECT_EQ(asked, 4);
  }
}

TEST(Rendezvous, WhoHasMetARankThatIsAskedToEndLearnsIt) {
  std::vector<RendezvousOptions> ranks = LoopbackRanks(3);
  ranks.pop_back();  // never comes
  std::atomic<int> asked{0};
  ranks[1].transport.stop = [&] { return ++asked > 20; };
  const std::vector<Outcome> outcomes =
      Meet(ranks, std::make_shared<MemoryStore>(), In(milliseconds(10000)));
  ASSERT_TRUE(outcomes[0].error && outcomes[1].error);
  EXPECT_EQ(outcomes[1].error->kind(), ErrorKind::kCancelled);
  EXPECT_TRUE(outcomes[0].error->kind() == ErrorKind::kCancelled ||
              outcomes[0].error->where().at("rank") == "1")
      << outcomes[0].error->what();
}

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

bool HasLoopbackV6() {
  const int listener = socket(AF_INET6, SOCK_STREAM, 0);
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  address.sin6_addr = in6addr_loopback;
  const bool bound =
      bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
  close(listener);
  return bound;
}

TEST(Rendezvous, ShortAddressesOfVersion6AreListenedOn) {
  if (!HasLoopbackV6()) GTEST_SKIP() << "this machine has no ::1";
  std::vector<RendezvousOptions> ranks = LoopbackRanks(2);
  for (RendezvousOptions& rank : ranks) rank.bind_address = "::1";
  const auto transports = ConnectedRanks(ranks);
  SendText(*transports[0], 1, Channel::kControl, "over version 6");
  const auto frame = transports[1]->Receive(0, Channel::kControl, Soon());
  ASSERT_TRUE(frame.has_value());
  EXPECT_EQ(TextOf(*frame), "over version 6");
}

// How long ranks wait for one that does not come. On a machine that is too busy for the others to
// meet meanwhile they wait longer.
constexpr milliseconds kMeetings[] = {milliseconds(600), milliseconds(3000), milliseconds(15000)};

bool Names(const Error& error, const std::string& rank) { return error.where().at("rank") == rank; }

TEST(Rendezvous, ARankThatDoesNotAppearIsNamed) {
  const Error without_zero = RankOneThrows(std::make_shared<MemoryStore>(), In(milliseconds(300)));
  EXPECT_EQ(without_zero.kind(), ErrorKind::kRank);
  EXPECT_TRUE(Names(without_zero, "0"));

  std::vector<RendezvousOptions> ranks = LoopbackRanks(3);
  ranks.pop_back();
  for (const milliseconds patience : kMeetings) {
    const auto outcomes = Meet(ranks, std::make_shared<MemoryStore>(), In(patience));
    int named = 0;
    for (const Outcome& outcome : outcomes) {
      ASSERT_TRUE(outcome.error.has_value());
      EXPECT_EQ(outcome.error->kind(), ErrorKind::kRank);
      named += Names(*outcome.error, "2");
    }
    if (named == 2) return;
  }
  FAIL() << "rank 2 was not named";
}

// Ranks as they come: each in a thread of its own, which ends with its transport or its error.
class Arrivals {
 public:
  explicit Arrivals(std::shared_ptr<Store> store) : store_(std::move(store)) {}

  void Come(const RendezvousOptions& options, TimePoint until) {
    ends_.push_back(std::async(std::launch::async, [store = store_, options, until] {
      return std::move(Meet({options}, store, until).front());
    }));
  }
  bool HasEnded(size_t arrival) const {
    return ends_.at(arrival).wait_for(std::chrono::seconds(0)) == std::future_status::ready;
  }
  Error EndOf(size_t arrival) {
    return ends_.at(arrival).get().error.value_or(Error(ErrorKind::kInternal, "they met"));
  }

 private:
  const std::shared_ptr<Store> store_;
  std::deque<std::future<Outcome>> ends_;
};

// A store that tells what is asked of it.
class WatchedStore : public MemoryStore {
 public:
  std::optional<std::string> TryGet(const std::string& key) override {
    const std::optional<std::string> text = MemoryStore::TryGet(key);
    {
      const std::lock_guard lock(mutex_);
      ++asked_[key];
    }
    changed_.notify_all();
    return text;
  }
  int asked(const std::string& key) {
    const std::lock_guard lock(mutex_);
    return asked_[key];
  }
  bool WaitUntilAsked(const std::string& key, int times) {
    std::unique_lock lock(mutex_);
    return changed_.wait_until(lock, Soon(), [&] { return asked_[key] >= times; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, int> asked_;
};

// Whether rank 1, which waits for so long, got as far as to miss rank 2.
bool RankTwoIsMissedAndNamedToLateRanks(milliseconds patience) {
  const auto store = std::make_shared<WatchedStore>();
  std::vector<RendezvousOptions> ranks = LoopbackRanks(4);
  Arrivals arrivals(store);
  arrivals.Come(ranks[0], In(2 * patience + milliseconds(20000)));
  arrivals.Come(ranks[1], In(patience));  // gives up early: ranks 2 and 3 do not come
  const bool missed = Names(arrivals.EndOf(1), "2");
  // Rank 0 has ended the run for the loss of rank 2 already, and waits for who may come to hear it.
  EXPECT_TRUE(store->WaitUntilAsked("left/3", 1));
  arrivals.Come(ranks[3], Soon());
  const Error late = arrivals.EndOf(2);
  const Error zero = arrivals.EndOf(0);
  if (!missed) return false;
  EXPECT_EQ(late.kind(), ErrorKind::kRank);
  EXPECT_TRUE(Names(late, "2")) << late.what();
  EXPECT_TRUE(Names(zero, "2")) << zero.what();
  return true;
}

TEST(Rendezvous, WhoComesLateLearnsWhichRankWasLost) {
  EXPECT_TRUE(std::ranges::any_of(kMeetings, RankTwoIsMissedAndNamedToLateRanks));
}

TEST(Rendezvous, RankZeroKeepsTheStoreUntilAllButTheLostHaveLeft) {
  const auto store = std::make_shared<WatchedStore>();
  std::vector<RendezvousOptions> ranks = LoopbackRanks(3);
  Arrivals arrivals(store);
  store->Set("notice", "lost/1");
  arrivals.Come(ranks[0], Soon());
  ASSERT_TRUE(store->WaitUntilAsked("left/2", 3));
  EXPECT_FALSE(arrivals.HasEnded(0));
  arrivals.Come(ranks[2], Soon());
  EXPECT_TRUE(Names(arrivals.EndOf(0), "1"));
  EXPECT_TRUE(store->TryGet("left/2").has_value());
  EXPECT_EQ(store->asked("left/1"), 0);
  EXPECT_TRUE(Names(arrivals.EndOf(1), "1"));
}

TEST(Rendezvous, ARankThatCannotListenLeavesWord) {
  const auto store = std::make_shared<MemoryStore>();
  std::vector<RendezvousOptions> ranks = LoopbackRanks(3);
  ranks[2].bind_address = "192.0.2.1";  // of documentation: nobody's
  ranks[2].secret = Secret("sixteen bytes...");
  const std::vector<Outcome> outcomes = Meet(ranks, store, In(milliseconds(8000)));
  EXPECT_EQ(outcomes[2].error->kind(), ErrorKind::kTransport);
  for (const size_t survivor : {0U, 1U}) {
    ASSERT_TRUE(outcomes[survivor].error.has_value());
    EXPECT_EQ(outcomes[survivor].error->where().at("rank"), "2") << survivor;
  }
}

TEST(Rendezvous, AHostileNoticeIsRefused) {
  for (const std::string& bad :
       {std::string(), std::string("lost"), std::string("lost/"), std::string("lost/2"),
        std::string("lost/-1"), std::string("lost/1 "), std::string("gone/1"),
        std::string("lost/1\0", 7), std::string(1 << 20, '1')}) {
    const auto store = std::make_shared<MemoryStore>();
    store->Set("nonce", kNonce);
    store->Set("notice", bad);
    EXPECT_EQ(RankOneThrows(store).kind(), ErrorKind::kTransport) << bad.substr(0, 20);
  }
}

TEST(LossNotice, SaysWhoIsTheCauseAndNoMore) {
  for (const auto cause : {LossNotice::Cause::kLost, LossNotice::Cause::kSecret}) {
    const std::optional<LossNotice> same = DecodeNotice(EncodeNotice({cause, 65535}), 65536);
    ASSERT_TRUE(same.has_value());
    EXPECT_EQ(same->cause, cause);
    EXPECT_EQ(same->rank, 65535);
  }
  const Error lost(ErrorKind::kRank, "x", {{"rank", "3"}});
  EXPECT_EQ(NoticeOf(lost, 1)->rank, 3);
  const Error own(ErrorKind::kTransport, "cannot listen", {{"address", "a"}});
  EXPECT_EQ(NoticeOf(own, 1)->rank, 1);
  // Rank 0's secret is the run's: what others make of keys is not passed on.
  const Error refused(ErrorKind::kTransport, "x", {{"rank", "3"}, {"field", "secret"}});
  EXPECT_EQ(NoticeOf(refused, 0)->cause, LossNotice::Cause::kSecret);
  EXPECT_FALSE(NoticeOf(refused, 1).has_value());
  EXPECT_FALSE(NoticeOf(Error(ErrorKind::kTransport, "x", {{"rank", "3"}}), 0).has_value());
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

TEST(Rendezvous, RanksThatWereStartedDifferentlySayInWhat) {
  struct Difference {
    const char* field;
    void (*make)(RendezvousOptions&);
  };
  const Difference differences[] = {
      {"world size", [](RendezvousOptions& rank) { rank.world_size = 3; }},
      {"window bytes", [](RendezvousOptions& rank) { ++rank.transport.window_bytes; }},
      {"window frames", [](RendezvousOptions& rank) { ++rank.transport.window_frames; }}};
  for (const Difference& difference : differences) {
    SCOPED_TRACE(difference.field);
    std::vector<RendezvousOptions> ranks = LoopbackRanks(2);
    difference.make(ranks[1]);
    const TimePoint until = In(std::chrono::minutes(1));
    const auto outcomes = Meet(ranks, std::make_shared<MemoryStore>(), until);
    EXPECT_LT(std::chrono::steady_clock::now(), until);  // it is known at once
    for (const Outcome& outcome : outcomes) {
      const Error error = outcome.error.value_or(Error(ErrorKind::kInternal, "they met"));
      EXPECT_EQ(error.kind(), ErrorKind::kTransport) << error.what();
      const auto field = error.where().find("field");
      EXPECT_TRUE(field != error.where().end() && field->second == difference.field)
          << error.what();
    }
  }
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
  const Error error = RankOneThrows(store, In(milliseconds(300)));
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
