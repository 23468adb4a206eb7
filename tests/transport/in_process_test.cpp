#include "transport/in_process.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <thread>

namespace xcomposer {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;

TimePoint In(milliseconds time) { return std::chrono::steady_clock::now() + time; }

std::string TextOf(const Frame& frame) {
  return {reinterpret_cast<const char*>(frame.payload.data),
          static_cast<size_t>(frame.payload.size)};
}

void SendText(Transport& transport, int to, Channel channel, const std::string& text) {
  FrameHeader header;
  header.channel = channel;
  header.payload_bytes = static_cast<int64_t>(text.size());
  transport.Send(to, header, Payload::Of(text));
}

TEST(InProcess, FramesOfAChannelKeepTheirOrderAndChannelsOvertake) {
  const auto ranks = MakeInProcessTransports(2);
  SendText(*ranks[0], 1, Channel::kHidden, "first");
  SendText(*ranks[0], 1, Channel::kHidden, "second");
  SendText(*ranks[0], 1, Channel::kControl, "small");
  EXPECT_EQ(TextOf(*ranks[1]->Receive(0, Channel::kControl, In(milliseconds(0)))), "small");
  EXPECT_EQ(TextOf(*ranks[1]->Receive(0, Channel::kHidden, In(milliseconds(0)))), "first");
  EXPECT_EQ(TextOf(*ranks[1]->Receive(0, Channel::kHidden, In(milliseconds(0)))), "second");
  EXPECT_FALSE(ranks[1]->Receive(0, Channel::kHidden, In(milliseconds(0))).has_value());
  EXPECT_FALSE(ranks[0]->Receive(1, Channel::kHidden, In(milliseconds(0))).has_value());
}

TEST(InProcess, ThePayloadIsHandedOverWithoutACopy) {
  const auto ranks = MakeInProcessTransports(2);
  FrameHeader header;
  header.channel = Channel::kHidden;
  header.kind = 7;
  header.stage = 2;
  header.step = 11;
  header.rows = 3;
  header.payload_bytes = 96;
  Payload payload = Payload::Allocate(96);
  const std::byte* const data = payload.data;
  const std::weak_ptr<void> owner = payload.owner;
  ranks[0]->Send(1, header, std::move(payload));
  std::optional<Frame> frame = ranks[1]->Receive(0, Channel::kHidden, In(milliseconds(0)));
  ASSERT_TRUE(frame.has_value());
  EXPECT_EQ(frame->payload.data, data);
  EXPECT_EQ(frame->header.kind, 7);
  EXPECT_EQ(frame->header.stage, 2U);
  EXPECT_EQ(frame->header.step, 11U);
  EXPECT_EQ(frame->header.rows, 3);
  EXPECT_FALSE(owner.expired());
  frame.reset();
  EXPECT_TRUE(owner.expired());
}

TEST(InProcess, ARankMaySendToItself) {
  const auto ranks = MakeInProcessTransports(1);
  SendText(*ranks[0], 0, Channel::kTaps, "own");
  EXPECT_EQ(TextOf(*ranks[0]->Receive(0, Channel::kTaps, In(milliseconds(0)))), "own");
}

TEST(InProcess, AFrameWakesTheOneWhoWaits) {
  const auto ranks = MakeInProcessTransports(2);
  std::thread sender([&] { SendText(*ranks[1], 0, Channel::kLogits, "late"); });
  const std::optional<Frame> frame = ranks[0]->Receive(1, Channel::kLogits, TimePoint::max());
  sender.join();
  ASSERT_TRUE(frame.has_value());
  EXPECT_EQ(TextOf(*frame), "late");
}

TEST(InProcess, TheFirstReasonEndsEveryWaitOnEveryRank) {
  const auto ranks = MakeInProcessTransports(3);
  std::vector<std::string> reasons(2);
  std::vector<std::thread> waiting;
  for (int rank = 0; rank < 2; ++rank) {
    waiting.emplace_back([&, rank] {
      try {
        ranks[static_cast<size_t>(rank)]->Receive(2, Channel::kHidden, TimePoint::max());
      } catch (const Error& error) {
        reasons[static_cast<size_t>(rank)] = error.where().at("step");
      }
    });
  }
  SendText(*ranks[0], 2, Channel::kHidden, "too late to matter");
  ranks[2]->Abort(Error(ErrorKind::kCapacity, "no memory", {{"rank", "2"}, {"step", "5"}}));
  ranks[1]->Abort(Error(ErrorKind::kInternal, "second"));
  for (std::thread& thread : waiting) thread.join();
  EXPECT_THAT(reasons, ::testing::Each("5"));
  for (const auto& rank : ranks) {
    ASSERT_TRUE(rank->failure().has_value());
    EXPECT_EQ(rank->failure()->kind(), ErrorKind::kCapacity);
    EXPECT_THROW(SendText(*rank, 0, Channel::kControl, "dead"), Error);
    EXPECT_THROW(rank->Receive(0, Channel::kHidden, In(milliseconds(0))), Error);
  }
}

TEST(InProcess, WhoLeavesIsNamedToTheOthers) {
  auto ranks = MakeInProcessTransports(2);
  EXPECT_FALSE(ranks[0]->failure().has_value());
  ranks[1].reset();
  try {
    ranks[0]->Receive(1, Channel::kControl, TimePoint::max());
    FAIL() << "the wait ended without an error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kRank);
    EXPECT_EQ(error.where().at("rank"), "1");
    EXPECT_THAT(error.what(), HasSubstr("rank 1 left"));
  }
}

TEST(InProcess, FramesThatContradictThemselvesNeverLeave) {
  const auto ranks = MakeInProcessTransports(2);
  FrameHeader header;
  header.payload_bytes = 5;
  EXPECT_THROW(ranks[0]->Send(1, header, Payload::Of("four")), Error);
  header.payload_bytes = 4;
  EXPECT_THROW(ranks[0]->Send(2, header, Payload::Of("four")), Error);
  EXPECT_THROW(ranks[0]->Send(-1, header, Payload::Of("four")), Error);
  header.rows = -1;
  EXPECT_THROW(ranks[0]->Send(1, header, Payload::Of("four")), Error);
  header.rows = 0;
  header.channel = static_cast<Channel>(9);
  EXPECT_THROW(ranks[0]->Send(1, header, Payload::Of("four")), Error);
  EXPECT_THROW(ranks[0]->Receive(2, Channel::kControl, In(milliseconds(0))), Error);
  EXPECT_FALSE(ranks[1]->failure().has_value());
}

}  // namespace
}  // namespace xcomposer
