// What happens between ranks whose network fails. Every connection goes through a proxy per rank.
#include <gtest/gtest.h>

#include <map>
#include <mutex>
#include <thread>

#include "base/check.h"
#include "support/tcp_proxy.h"
#include "transport/memory_store.h"
#include "transport/rank_group.h"

namespace xcomposer {
namespace {

using std::chrono::milliseconds;

// Puts a proxy before every endpoint that is published.
class ProxiedStore : public MemoryStore {
 public:
  void Set(const std::string& key, const std::string& value) override {
    if (key.rfind("endpoint/", 0) != 0) return MemoryStore::Set(key, value);
    const auto port = static_cast<uint16_t>(std::stoi(value.substr(value.rfind(':') + 1)));
    auto proxy = std::make_unique<TcpProxy>(port);
    MemoryStore::Set(key, StrCat("tcp://127.0.0.1:", proxy->port()));
    const std::lock_guard lock(mutex_);
    proxies_[std::stoi(key.substr(9))] = std::move(proxy);
  }

  /// On the way to `rank`.
  TcpProxy& proxy(int rank) {
    const std::lock_guard lock(mutex_);
    return *proxies_.at(rank);
  }

 private:
  std::mutex mutex_;
  std::map<int, std::unique_ptr<TcpProxy>> proxies_;
};

// Where nothing but silence tells: long enough for a busy machine to let every rank speak
// meanwhile.
constexpr milliseconds kSilence{2500};

class NetworkFailure : public ::testing::Test {
 protected:
  void Connect(int world_size, milliseconds rank_timeout) {
    std::vector<RendezvousOptions> options = LoopbackRanks(world_size);
    for (RendezvousOptions& rank : options) {
      rank.secret = Secret("a secret of more than sixteen bytes");
      rank.transport.rank_timeout = rank_timeout;
    }
    for (Outcome& outcome : Meet(options, store_)) {
      ASSERT_FALSE(outcome.error.has_value()) << outcome.error->what();
      ranks_.push_back(std::move(outcome.transport));
    }
  }

  // All ranks talk, so that each is at some step.
  void TalkAtStep(uint64_t step) {
    for (const auto& from : ranks_) {
      FrameHeader header;
      header.stage = static_cast<uint32_t>(from->rank());
      header.step = step;
      for (const auto& to : ranks_) {
        if (to != from) from->Send(to->rank(), header, {});
      }
    }
    for (const auto& from : ranks_) {
      for (const auto& to : ranks_) {
        if (to == from) continue;
        ASSERT_TRUE(to->Receive(from->rank(), Channel::kControl, Soon()).has_value());
      }
    }
  }

  // Every rank ends with kRank and a reason that names a rank, a stage and a step.
  void ExpectAllLost() {
    for (const auto& rank : ranks_) {
      const Error reason = FailureOf(*rank);
      EXPECT_EQ(reason.kind(), ErrorKind::kRank)
          << "rank " << rank->rank() << ": " << reason.what();
      EXPECT_EQ(reason.where().count("rank"), 1U) << reason.what();
      EXPECT_EQ(reason.where().count("stage"), 1U) << reason.what();
      EXPECT_EQ(reason.where().count("step"), 1U) << reason.what();
    }
  }

  const std::shared_ptr<ProxiedStore> store_ = std::make_shared<ProxiedStore>();
  std::vector<std::unique_ptr<Transport>> ranks_;
};

TEST_F(NetworkFailure, ADelayBelowTheBoundIsSurvived) {
  Connect(2, milliseconds(5000));
  store_->proxy(0).SetDelay(milliseconds(2000));
  TalkAtStep(1);
  std::this_thread::sleep_for(milliseconds(1500));
  TalkAtStep(2);
  for (const auto& rank : ranks_) EXPECT_FALSE(rank->failure().has_value());
}

TEST_F(NetworkFailure, ADelayAboveTheBoundIsALoss) {
  Connect(2, kSilence);
  TalkAtStep(1);
  store_->proxy(0).SetDelay(milliseconds(60000));
  ExpectAllLost();
}

TEST_F(NetworkFailure, ABlackHoleIsFoundByEveryRank) {
  Connect(3, kSilence);
  TalkAtStep(4);
  for (int rank = 0; rank < 3; ++rank) store_->proxy(rank).Set(TcpProxy::Mode::kBlackHole);
  ExpectAllLost();
}

TEST_F(NetworkFailure, ARankThatOnlyOneOtherReachesLearnsTheReason) {
  Connect(3, kSilence);
  TalkAtStep(7);
  // Nobody reaches rank 1; it reaches the others, who are told by their own clocks.
  store_->proxy(1).Set(TcpProxy::Mode::kBlackHole);
  ExpectAllLost();
}

TEST_F(NetworkFailure, AStallIsALossAndFillsNoMemory) {
  Connect(2, kSilence);
  TalkAtStep(1);
  store_->proxy(1).Set(TcpProxy::Mode::kStall);
  // More than the sockets' buffers take: sending must not hang for longer than the run lives.
  try {
    for (int i = 0; i < 10000; ++i) {
      SendText(*ranks_[0], 1, Channel::kHidden, std::string(1 << 20, 'x'));
    }
    ADD_FAILURE() << "10 GB went into a stalled connection";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kRank) << error.what();
  }
  ExpectAllLost();
}

TEST_F(NetworkFailure, AResetIsFoundAtOnce) {
  Connect(3, milliseconds(60000));
  TalkAtStep(3);
  store_->proxy(2).Set(TcpProxy::Mode::kReset);
  ExpectAllLost();  // without the minute of silence
}

TEST_F(NetworkFailure, ANewRunCanBeMadeInTheSameProcess) {
  Connect(2, milliseconds(60000));
  store_->proxy(0).Set(TcpProxy::Mode::kReset);
  ExpectAllLost();
  ranks_.clear();
  const auto again = ConnectedRanks(LoopbackRanks(2));
  SendText(*again[0], 1, Channel::kControl, "again");
  EXPECT_TRUE(again[1]->Receive(0, Channel::kControl, Soon()).has_value());
}

}  // namespace
}  // namespace xcomposer
