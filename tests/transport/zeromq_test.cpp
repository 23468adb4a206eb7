#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <thread>

#include "base/check.h"
#include "support/held_port.h"
#include "transport/frame_codec.h"
#include "transport/memory_store.h"
#include "transport/rank_group.h"

namespace xcomposer {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;

const char* const kSecret = "a secret of more than sixteen bytes";

std::vector<RendezvousOptions> SecretRanks(int world_size) {
  std::vector<RendezvousOptions> ranks = LoopbackRanks(world_size);
  for (RendezvousOptions& rank : ranks) rank.secret = Secret(kSecret);
  return ranks;
}

// With and without CURVE.
class ZeroMq : public ::testing::TestWithParam<bool> {
 protected:
  static std::vector<RendezvousOptions> Ranks(int world_size) {
    return GetParam() ? SecretRanks(world_size) : LoopbackRanks(world_size);
  }
};

INSTANTIATE_TEST_SUITE_P(Security, ZeroMq, ::testing::Bool(),
                         [](const auto& info) { return info.param ? "Curve" : "Clear"; });

TEST_P(ZeroMq, EveryRankReachesEveryOther) {
  const auto ranks = ConnectedRanks(Ranks(3));
  for (int from = 0; from < 3; ++from) {
    for (int to = 0; to < 3; ++to) {
      SendText(*ranks[static_cast<size_t>(from)], to, Channel::kHidden, StrCat(from, " to ", to));
    }
  }
  for (int from = 0; from < 3; ++from) {
    for (int to = 0; to < 3; ++to) {
      const auto frame = ranks[static_cast<size_t>(to)]->Receive(from, Channel::kHidden, Soon());
      ASSERT_TRUE(frame.has_value());
      EXPECT_EQ(TextOf(*frame), StrCat(from, " to ", to));
    }
  }
}

TEST_P(ZeroMq, HeaderAndPayloadArriveAsTheyWere) {
  const auto ranks = ConnectedRanks(Ranks(2));
  // Around the sizes at which ZeroMQ changes how it keeps a message, and of a large activation.
  for (const int64_t size : {1, 29, 33, 34, 255, 256, 4097, 8191, 8192, 8200, 70001, 10 << 20}) {
    FrameHeader header;
    header.channel = Channel::kLogits;
    header.kind = 65535;
    header.stage = 3;
    header.step = uint64_t{1} << 40;
    header.rows = size % 7;
    header.payload_bytes = size;
    std::vector<std::byte> bytes(static_cast<size_t>(size));
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 31 % 251);
    Payload payload = Payload::Allocate(size);
    std::memcpy(payload.data, bytes.data(), bytes.size());
    ranks[1]->Send(0, header, std::move(payload));
    const auto frame = ranks[0]->Receive(1, Channel::kLogits, Soon());
    ASSERT_TRUE(frame.has_value()) << size;
    EXPECT_EQ(frame->header.kind, header.kind);
    EXPECT_EQ(frame->header.stage, header.stage);
    EXPECT_EQ(frame->header.step, header.step);
    EXPECT_EQ(frame->header.rows, header.rows);
    ASSERT_EQ(frame->payload.size, size);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(frame->payload.data) % 8, 0U) << size;
    EXPECT_EQ(std::memcmp(frame->payload.data, bytes.data(), bytes.size()), 0) << size;
  }
}

TEST_P(ZeroMq, ManyThreadsMaySendAndReceive) {
  constexpr int kFrames = 300;
  const auto ranks = ConnectedRanks(Ranks(2));
  std::vector<std::thread> threads;
  std::atomic<int> good{0};
  for (const Channel channel : {Channel::kControl, Channel::kHidden, Channel::kTaps}) {
    for (const size_t from : {size_t{0}, size_t{1}}) {
      threads.emplace_back([&, channel, from] {
        for (int i = 0; i < kFrames; ++i) {
          SendText(*ranks[from], static_cast<int>(1 - from), channel, StrCat(i));
        }
      });
      threads.emplace_back([&, channel, from] {
        for (int i = 0; i < kFrames; ++i) {
          const auto frame = ranks[1 - from]->Receive(static_cast<int>(from), channel, Soon());
          if (frame && TextOf(*frame) == StrCat(i)) ++good;
        }
      });
    }
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(good, 6 * kFrames);
}

TEST_P(ZeroMq, TheSentPayloadIsGivenBackOnceItIsGone) {
  const auto ranks = ConnectedRanks(Ranks(2));
  Payload payload = Payload::Allocate(1 << 20);
  std::memset(payload.data, 1, 1 << 20);
  const std::weak_ptr<void> owner = payload.owner;
  FrameHeader header;
  header.payload_bytes = payload.size;
  ranks[0]->Send(1, header, std::move(payload));
  ASSERT_TRUE(ranks[1]->Receive(0, Channel::kControl, Soon()).has_value());
  const TimePoint until = Soon();
  while (!owner.expired() && std::chrono::steady_clock::now() < until) std::this_thread::yield();
  EXPECT_TRUE(owner.expired());
}

TEST_P(ZeroMq, SignalsThatReachItsThreadsEndNothing) {
  struct sigaction ours = {};
  static std::atomic<int> handled;
  handled = 0;
  ours.sa_handler = [](int) { ++handled; };  // without SA_RESTART
  // It stays: at the end of the test a signal may still be on its way to a thread.
  ASSERT_EQ(sigaction(SIGUSR1, &ours, nullptr), 0);
  const auto ranks = ConnectedRanks(Ranks(2));
  for (int i = 0; i < 50; ++i) {
    for (const auto& thread : std::filesystem::directory_iterator("/proc/self/task")) {
      syscall(SYS_tgkill, getpid(), std::stoi(thread.path().filename()), SIGUSR1);
    }
    SendText(*ranks[0], 1, Channel::kHidden, StrCat(i));
    const auto frame = ranks[1]->Receive(0, Channel::kHidden, Soon());
    ASSERT_TRUE(frame.has_value());
    EXPECT_EQ(TextOf(*frame), StrCat(i));
  }
  EXPECT_GT(handled, 100);
}

TEST_P(ZeroMq, AReasonReachesEveryRankWithItsPlaces) {
  const auto ranks = ConnectedRanks(Ranks(3));
  ranks[2]->Abort(Error(ErrorKind::kCapacity, "no memory for 7 blocks",
                        {{"rank", "2"}, {"stage", "1"}, {"step", "12"}}));
  for (const auto& rank : ranks) {
    const Error reason = FailureOf(*rank);
    EXPECT_EQ(reason.kind(), ErrorKind::kCapacity);
    EXPECT_STREQ(reason.what(), "no memory for 7 blocks");
    EXPECT_EQ(reason.where().at("rank"), "2");
    EXPECT_EQ(reason.where().at("stage"), "1");
    EXPECT_EQ(reason.where().at("step"), "12");
    EXPECT_THROW(SendText(*rank, 0, Channel::kControl, "dead"), Error);
    EXPECT_THROW(rank->Receive(0, Channel::kControl, Soon()), Error);
  }
}

TEST_P(ZeroMq, WhoLeavesIsNamedWithTheStepWhereItWas) {
  auto ranks = ConnectedRanks(Ranks(3));
  FrameHeader header;
  header.stage = 1;
  header.step = 41;
  ranks[1]->Send(0, header, {});
  ranks[1]->Send(2, header, {});
  ASSERT_TRUE(ranks[0]->Receive(1, Channel::kControl, Soon()).has_value());
  ASSERT_TRUE(ranks[2]->Receive(1, Channel::kControl, Soon()).has_value());
  ranks[1].reset();
  for (const size_t survivor : {size_t{0}, size_t{2}}) {
    const Error reason = FailureOf(*ranks[survivor]);
    EXPECT_EQ(reason.kind(), ErrorKind::kRank);
    EXPECT_EQ(reason.where().at("rank"), "1");
    EXPECT_EQ(reason.where().at("stage"), "1");
    EXPECT_EQ(reason.where().at("step"), "41");
    EXPECT_THAT(reason.what(), HasSubstr("left the run"));
  }
}

TEST_P(ZeroMq, WhoeverTakesNothingHoldsItsSenderAndNotTheMemory) {
  std::vector<RendezvousOptions> options = Ranks(2);
  for (RendezvousOptions& rank : options) {
    rank.transport.window_bytes = 4000;
    rank.transport.window_frames = 4;
  }
  const auto ranks = ConnectedRanks(options);
  std::atomic<int> sent{0};
  std::thread sender([&] {
    for (int i = 0; i < 40; ++i, ++sent) {
      SendText(*ranks[0], 1, Channel::kHidden, std::string(900, 'x'));
    }
  });
  const TimePoint until = Soon();
  while (sent < 4 && std::chrono::steady_clock::now() < until) std::this_thread::yield();
  // Another channel is not held up; its frame comes although kHidden is full.
  SendText(*ranks[0], 1, Channel::kControl, "overtakes");
  ASSERT_TRUE(ranks[1]->Receive(0, Channel::kControl, Soon()).has_value());
  EXPECT_EQ(sent, 4);
  for (int i = 0; i < 40; ++i) {
    ASSERT_TRUE(ranks[1]->Receive(0, Channel::kHidden, Soon()).has_value()) << i;
  }
  sender.join();
}

TEST_P(ZeroMq, ASenderThatWaitsEndsWithTheRun) {
  std::vector<RendezvousOptions> options = Ranks(2);
  for (RendezvousOptions& rank : options) rank.transport.window_frames = 1;
  const auto ranks = ConnectedRanks(options);
  SendText(*ranks[0], 1, Channel::kHidden, "fills the window");
  std::optional<Error> thrown;
  std::thread sender([&] {
    try {
      SendText(*ranks[0], 1, Channel::kHidden, "waits");
    } catch (const Error& error) {
      thrown = error;
    }
  });
  ranks[1]->Abort(Error(ErrorKind::kDevice, "broken"));
  sender.join();
  ASSERT_TRUE(thrown.has_value());
  EXPECT_EQ(thrown->kind(), ErrorKind::kDevice);
}

TEST_P(ZeroMq, ASenderDoesNotWaitForEver) {
  std::vector<RendezvousOptions> options = Ranks(2);
  for (RendezvousOptions& rank : options) {
    rank.transport.window_frames = 1;
    rank.transport.send_timeout = milliseconds(50);
  }
  const auto ranks = ConnectedRanks(options);
  SendText(*ranks[0], 1, Channel::kHidden, "fills the window");
  EXPECT_THROW(SendText(*ranks[0], 1, Channel::kHidden, "waits"), Error);
  const Error reason = FailureOf(*ranks[1]);
  EXPECT_EQ(reason.kind(), ErrorKind::kTransport);
  EXPECT_THAT(reason.what(), HasSubstr("rank 1 lives but took nothing"));
}

TEST_P(ZeroMq, WhatItsReceiverWouldNotAcceptNeverLeaves) {
  std::vector<RendezvousOptions> options = Ranks(2);
  for (RendezvousOptions& rank : options) {
    rank.transport.max_payload_bytes = 1000;
    rank.transport.max_rows = 50;
  }
  const auto ranks = ConnectedRanks(options);
  const auto send = [&](int64_t bytes, int64_t rows, uint32_t stage) {
    FrameHeader header;
    header.stage = stage;
    header.rows = rows;
    header.payload_bytes = bytes;
    ranks[0]->Send(1, header, Payload::Of(std::string(static_cast<size_t>(bytes), 'x')));
  };
  const uint32_t last_stage = FrameLimits().max_stages - 1;
  EXPECT_THROW(send(1001, 50, last_stage), Error);
  EXPECT_THROW(send(1000, 51, last_stage), Error);
  EXPECT_THROW(send(1000, 50, last_stage + 1), Error);
  send(1000, 50, last_stage);
  const std::optional<Frame> frame = ranks[1]->Receive(0, Channel::kControl, Soon());
  ASSERT_TRUE(frame.has_value());
  EXPECT_EQ(frame->header.rows, 50);
}

TEST_P(ZeroMq, ARankWhoseRunIsOverListensNoMore) {
  std::vector<RendezvousOptions> options = Ranks(2);
  const auto store = std::make_shared<MemoryStore>();
  const std::vector<Outcome> outcomes = Meet(options, store);
  const std::string endpoint = store->TryGet("endpoint/0").value();
  const auto port = static_cast<uint16_t>(std::stoi(endpoint.substr(endpoint.rfind(':') + 1)));
  ASSERT_TRUE(IsListenedOn("127.0.0.1", port));
  outcomes[0].transport->Abort(Error(ErrorKind::kDevice, "broken"));
  // While its transport is still there.
  const TimePoint until = Soon();
  while (IsListenedOn("127.0.0.1", port) && std::chrono::steady_clock::now() < until) {
    std::this_thread::yield();
  }
  EXPECT_FALSE(IsListenedOn("127.0.0.1", port));
}

TEST_P(ZeroMq, AReceiveReturnsAtItsDeadlineAndTheRunLives) {
  const auto ranks = ConnectedRanks(Ranks(2));
  EXPECT_FALSE(ranks[0]->Receive(1, Channel::kHidden, In(milliseconds(20))).has_value());
  EXPECT_FALSE(ranks[0]->failure().has_value());
  SendText(*ranks[1], 0, Channel::kHidden, "later");
  EXPECT_TRUE(ranks[0]->Receive(1, Channel::kHidden, Soon()).has_value());
}

// --- Secrets
// ---------------------------------------------------------------------------------------

TEST(ZeroMqSecret, TheHonestRanksNameTheOneWithAnotherSecret) {
  std::vector<RendezvousOptions> ranks = SecretRanks(3);
  ranks[1].secret = Secret("another secret that is long enough");
  const std::vector<Outcome> outcomes = Meet(ranks, std::make_shared<MemoryStore>(), Soon());
  EXPECT_TRUE(outcomes[1].error.has_value());
  for (const size_t honest : {size_t{0}, size_t{2}}) {
    ASSERT_TRUE(outcomes[honest].error.has_value());
    EXPECT_EQ(outcomes[honest].error->kind(), ErrorKind::kTransport)
        << outcomes[honest].error->what();
    EXPECT_EQ(outcomes[honest].error->where().at("rank"), "1");
    EXPECT_EQ(outcomes[honest].error->where().at("field"), "secret");
  }
}

TEST(ZeroMqSecret, ARankWithoutTheSecretIsRefused) {
  std::vector<RendezvousOptions> ranks = SecretRanks(2);
  ranks[1].secret.reset();
  const std::vector<Outcome> outcomes = Meet(ranks, std::make_shared<MemoryStore>(), Soon());
  // Two truths, and it is a race which of them rank 1 meets first: rank 0 does not take its
  // handshake, or the notice that rank 0 left for it.
  ASSERT_TRUE(outcomes[1].error.has_value());
  const Error::Where& seen_by_refused = outcomes[1].error->where();
  if (seen_by_refused.at("rank") == "1") {
    EXPECT_EQ(outcomes[1].error->kind(), ErrorKind::kTransport) << outcomes[1].error->what();
    EXPECT_EQ(seen_by_refused.at("field"), "secret");
  } else {
    EXPECT_EQ(seen_by_refused.at("rank"), "0") << outcomes[1].error->what();
  }
  ASSERT_TRUE(outcomes[0].error.has_value());
  EXPECT_EQ(outcomes[0].error->kind(), ErrorKind::kTransport) << outcomes[0].error->what();
  EXPECT_EQ(outcomes[0].error->where().at("field"), "secret");
  EXPECT_EQ(outcomes[0].error->where().at("rank"), "1");
}

TEST(ZeroMqSecret, WithoutOneOnlyLoopbackIsAccepted) {
  std::vector<RendezvousOptions> ranks = LoopbackRanks(2);
  ranks[0].bind_address = "0.0.0.0";
  ranks[0].transport.connect_timeout = milliseconds(100);
  const std::vector<Outcome> outcomes =
      Meet(ranks, std::make_shared<MemoryStore>(), In(milliseconds(300)));
  ASSERT_TRUE(outcomes[0].error.has_value());
  EXPECT_EQ(outcomes[0].error->kind(), ErrorKind::kUsage);
  EXPECT_EQ(outcomes[0].error->where().at("address"), "0.0.0.0");
  EXPECT_THAT(outcomes[0].error->what(), HasSubstr("--secret-file"));
}

}  // namespace
}  // namespace xcomposer
