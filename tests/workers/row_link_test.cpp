// Rows from GPU to GPU: which link carries them, and what happens where it fails. Stand-ins say
// that their memory is a GPU's.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>

#include "transport/fake_nccl.h"
#include "workers/hand_over.h"
#include "workers/nccl_row_link.h"
#include "workers/rank_group.h"

namespace xcomposer {
namespace {

using namespace testing;  // the stand-ins
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// A way from one rank to the next.
class Way final : public RowLink {
 public:
  void Send(const Step& step, Payload rows) override {
    if (step.number == fails_at) throw Error(ErrorKind::kTransport, "the way is broken");
    EXPECT_TRUE(rows.on_device);
    ++sent;
    queue_.Put(std::move(rows));
  }
  Payload Receive(const Step& step, int64_t bytes) override {
    if (step.number == fails_at) throw Error(ErrorKind::kTransport, "the way is broken");
    Payload rows = queue_.Take();
    EXPECT_EQ(rows.size, bytes);
    return rows;
  }

  std::atomic<int> sent{0};
  uint64_t fails_at = 0;  // step; set before use

 private:
  HandOver<Payload> queue_;
};

/// Three ranks of one stage; those of `on_device` give rows in a GPU's memory.
class RowLinkTest : public ::testing::Test {
 protected:
  RankGroup Group(std::vector<int> on_device) {
    return RankGroup(
        {0, 1, 2},
        [on_device](int stage, StandInStage* body) {
          body->on_device = std::find(on_device.begin(), on_device.end(), stage) != on_device.end();
        },
        [this](int rank) {
          RowLinks links;
          if (rank > 0) links.from_previous = ways_[static_cast<size_t>(rank) - 1];
          if (rank < 2) links.to_next = ways_[static_cast<size_t>(rank)];
          return links;
        });
  }

  std::array<std::shared_ptr<Way>, 2> ways_ = {std::make_shared<Way>(), std::make_shared<Way>()};
};

TEST_F(RowLinkTest, TheMemoryOfTheRowsDecidesWhichWayTheyGo) {
  RankGroup host({0, 1, 2});
  const std::vector<float> expected = host.Forward(StandInBatch(5));
  for (const std::vector<int>& on_device :
       std::vector<std::vector<int>>{{}, {0}, {1}, {0, 1}, {0, 1, 2}}) {
    ways_ = {std::make_shared<Way>(), std::make_shared<Way>()};
    RankGroup group = Group(on_device);
    EXPECT_EQ(group.Forward(StandInBatch(5)), expected);
    group.Forward(StandInBatch(6, 9));
    for (int stage = 0; stage < 2; ++stage) {
      const bool apart = std::find(on_device.begin(), on_device.end(), stage) != on_device.end();
      EXPECT_EQ(ways_[static_cast<size_t>(stage)]->sent, apart ? 2 : 0) << stage;
    }
    group.Join();
    for (const auto& end : group.ends) EXPECT_FALSE(end) << end->what();
  }
}

TEST_F(RowLinkTest, AStepThatFailedGoesByTheTransport) {
  RankGroup group(
      {0, 1, 2},
      [](int stage, StandInStage* body) {
        body->on_device = true;
        body->before_run = [stage](const Step& step) {
          if (stage == 0 && step.number == 1) throw Error(ErrorKind::kCapacity, "no memory");
        };
      },
      [this](int rank) {
        return RowLinks{.from_previous = rank > 0 ? ways_[static_cast<size_t>(rank) - 1] : nullptr,
                        .to_next = rank < 2 ? ways_[static_cast<size_t>(rank)] : nullptr};
      });
  EXPECT_THROW(group.Forward(StandInBatch(5)), Error);
  EXPECT_FALSE(group.Forward(StandInBatch(5)).empty());
  EXPECT_EQ(ways_[0]->sent, 1);
  EXPECT_EQ(ways_[1]->sent, 1);
}

TEST_F(RowLinkTest, ABrokenWayEndsTheRunOnEveryRank) {
  ways_[1]->fails_at = 2;
  RankGroup group = Group({0, 1});
  group.Forward(StandInBatch(5));
  try {
    group.Forward(StandInBatch(6));
    ADD_FAILURE() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kTransport);
    EXPECT_THAT(error.what(), HasSubstr("the way is broken"));
  }
  group.Join();
  for (const size_t rank : {1u, 2u}) ASSERT_TRUE(group.ends[rank].has_value());
}

TEST_F(RowLinkTest, RowsThatNoLinkCarriesAreADefectThatIsNamed) {
  RankGroup group({0, 1, 2}, [](int, StandInStage* body) { body->on_device = true; });
  try {
    group.Forward(StandInBatch(5));
    ADD_FAILURE() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kInternal);
    EXPECT_THAT(error.what(), HasSubstr("no link carries them"));
  }
}

/// Two ranks whose NCCL is scripted.
class NcclRows : public ::testing::Test {
 protected:
  NcclRows() : transports_(MakeInProcessTransports(2)) {}

  /// Rank 0 sends, rank 1 receives.
  std::unique_ptr<NcclRowLink> Link(int rank) {
    NcclOptions options;
    options.peer = 1 - rank;
    options.end = rank == 0 ? NcclOptions::End::kSends : NcclOptions::End::kReceives;
    options.scratch = scratch_.data();
    const auto& fake = fakes_[static_cast<size_t>(rank)];
    auto link =
        std::make_unique<NcclLink>(ApiOf(fake), *transports_[static_cast<size_t>(rank)], options,
                                   std::chrono::steady_clock::now() + std::chrono::seconds(10));
    fake->calls.clear();
    NcclRowLink::Options rows;
    rows.stage = static_cast<uint32_t>(rank);
    rows.timeout = std::chrono::milliseconds(200);
    rows.follow = [fake](const Payload& given) {
      fake->calls.push_back("follow " + std::to_string(given.size));
    };
    rows.allocate = [](int64_t bytes) { return Rows(bytes); };
    return std::make_unique<NcclRowLink>(std::move(link), std::move(rows));
  }

  static Payload Rows(int64_t bytes) {
    Payload rows = Payload::Allocate(bytes);
    rows.on_device = true;
    return rows;
  }

  static Step StepOf(uint64_t number) {
    Step step;
    step.number = number;
    return step;
  }

  std::vector<std::unique_ptr<Transport>> transports_;
  std::array<std::shared_ptr<FakeNccl>, 2> fakes_ = {std::make_shared<FakeNccl>(),
                                                     std::make_shared<FakeNccl>()};
  std::array<std::byte, 16> scratch_{};
};

TEST_F(NcclRows, SendsOverlapWithComputingAndKeepTheirMemory) {
  const auto link = Link(0);
  fakes_[0]->stream_polls = 3;  // a transfer takes a while
  Payload rows = Rows(64);
  const std::weak_ptr<void> first = rows.owner;
  link->Send(StepOf(1), std::move(rows));
  EXPECT_EQ(fakes_[0]->stream_polls_left, 3);  // nobody has waited for it
  EXPECT_FALSE(first.expired());
  link->Send(StepOf(2), Rows(128));
  EXPECT_TRUE(first.expired());
  EXPECT_THAT(fakes_[0]->calls, ElementsAre("follow 64", "send>1:64", "follow 128", "send>1:128"));
}

TEST_F(NcclRows, ReceivesIntoMemoryOfItsOwnGpu) {
  const auto zero = Link(0);  // draws the unique id
  const auto link = Link(1);
  const Payload rows = link->Receive(StepOf(4), 96);
  EXPECT_TRUE(rows.on_device);
  EXPECT_EQ(rows.size, 96);
  EXPECT_THAT(fakes_[1]->calls, ElementsAre("receive<0:96"));
}

TEST_F(NcclRows, AHangEndsTheRunWithStageAndStep) {
  const auto zero = Link(0);
  const auto link = Link(1);
  fakes_[1]->stream_hangs = true;
  try {
    link->Receive(StepOf(7), 96);
    ADD_FAILURE() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kDeadline);
    EXPECT_EQ(error.where().at("stage"), "1");
    EXPECT_EQ(error.where().at("step"), "7");
    EXPECT_EQ(error.where().at("peer"), "0");
  }
  EXPECT_EQ(fakes_[1]->aborted, 1);
  ASSERT_TRUE(transports_[0]->failure().has_value());  // the other rank knows
}

TEST_F(NcclRows, HostMemoryIsRefused) {
  const auto link = Link(0);
  EXPECT_THROW(link->Send(StepOf(1), Payload::Allocate(8)), Error);
  FrameHeader header;
  header.channel = Channel::kHidden;
  header.payload_bytes = 8;
  EXPECT_THROW(transports_[0]->Send(1, header, Rows(8)), Error);
}

}  // namespace
}  // namespace xcomposer
