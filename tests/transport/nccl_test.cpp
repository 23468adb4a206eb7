// The state machine over NCCL, against one that fails, hangs and is late.
#include <gtest/gtest.h>

#include "transport/fake_nccl.h"
#include "transport/in_process.h"
#include "transport/nccl_links.h"

namespace xcomposer {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

TimePoint In(milliseconds time) { return steady_clock::now() + time; }
TimePoint Soon() { return In(std::chrono::seconds(20)); }

// Two ranks, of which the tests drive rank 0.
class Nccl : public ::testing::Test {
 protected:
  std::unique_ptr<NcclLinks> Make(TimePoint until = Soon()) {
    NcclOptions options;
    options.scratch = scratch_;
    options.peers = {1};
    options.abort_timeout = milliseconds(100);
    return std::make_unique<NcclLinks>(ApiOf(fake_), *ranks_[0], options, until);
  }

  // The error of a call, which must also have ended the run and the communicator.
  template <typename Call>
  Error Broken(Call call, int aborted = 1) {
    try {
      call();
    } catch (const Error& error) {
      EXPECT_EQ(fake_->aborted, aborted);
      EXPECT_EQ(fake_->destroyed, 0);
      const Error told =
          ranks_[1]->failure().value_or(Error(ErrorKind::kInternal, "the other rank was not told"));
      EXPECT_STREQ(told.what(), error.what());
      return error;
    }
    ADD_FAILURE() << "nothing was thrown";
    return Error(ErrorKind::kInternal, "");
  }

  std::byte scratch_[16] = {};
  std::byte data_[64] = {};
  const std::shared_ptr<FakeNccl> fake_ = std::make_shared<FakeNccl>();
  std::vector<std::unique_ptr<Transport>> ranks_ = MakeInProcessTransports(2);
};

TEST_F(Nccl, RanksShareTheIdAndWarmUpTheirPairsInOneOrder) {
  const auto ranks = MakeInProcessTransports(3);
  const std::vector<std::vector<std::string>> expected = {
      {"init 0/3", "{", "send>1:8", "receive<1:8", "}", "{", "send>2:8", "receive<2:8", "}"},
      {"init 1/3", "{", "send>0:8", "receive<0:8", "}", "{", "send>2:8", "receive<2:8", "}"},
      {"init 2/3", "{", "send>0:8", "receive<0:8", "}", "{", "send>1:8", "receive<1:8", "}"}};
  for (int rank = 0; rank < 3; ++rank) {
    const auto fake = std::make_shared<FakeNccl>();
    NcclOptions options;
    options.scratch = scratch_;
    options.peers = {(rank + 2) % 3, (rank + 1) % 3};
    const NcclLinks links(ApiOf(fake), *ranks[static_cast<size_t>(rank)], options, Soon());
    EXPECT_EQ(fake->calls, expected[static_cast<size_t>(rank)]);
    EXPECT_EQ(fake->id.bytes[127], 'u');
  }
}

TEST_F(Nccl, LateCompletionsAreWaitedFor) {
  fake_->polls_until_done = 5;
  fake_->stream_polls = 7;
  const auto links = Make();
  links->Send(1, data_, 64, Soon());
  links->Receive(1, data_, 32, Soon());
  links->Wait(Soon());
  EXPECT_EQ(fake_->calls.back(), "receive<1:32");
  EXPECT_FALSE(ranks_[0]->failure().has_value());
}

TEST_F(Nccl, AGoodRunEndsWithoutForce) {
  fake_->polls_until_done = 3;
  Make().reset();
  EXPECT_EQ(fake_->calls.back(), "finalize");
  EXPECT_EQ(fake_->destroyed, 1);
  EXPECT_EQ(fake_->aborted, 0);
}

TEST_F(Nccl, AnEndThatHangsIsForced) {
  auto links = Make();
  fake_->hangs = true;
  links.reset();
  EXPECT_EQ(fake_->destroyed, 0);
  EXPECT_EQ(fake_->aborted, 1);
}

TEST_F(Nccl, ACommunicatorThatIsNeverMadeIsADeadline) {
  fake_->hangs = true;
  const Error error = Broken([&] { Make(In(milliseconds(20))); });
  EXPECT_EQ(error.kind(), ErrorKind::kDeadline);
  EXPECT_EQ(error.where().at("rank"), "0");
}

TEST_F(Nccl, EveryCallThatFailsEndsTheRun) {
  for (const char* call :
       {"init 0/2", "send>1:8", "receive<1:8", "}", "send>1:64", "receive<1:64"}) {
    SCOPED_TRACE(call);
    ranks_ = MakeInProcessTransports(2);
    fake_->fails = call;
    fake_->aborted = 0;
    const Error error = Broken([&] {
      const auto links = Make();
      links->Send(1, data_, 64, Soon());
      links->Receive(1, data_, 64, Soon());
    });
    EXPECT_EQ(error.kind(), ErrorKind::kTransport);
    EXPECT_NE(std::string(error.what()).find("the fake's reason"), std::string::npos);
  }
}

TEST_F(Nccl, WithoutAnIdThereIsNoCommunicatorToEnd) {
  fake_->fails = "id";
  EXPECT_EQ(Broken([&] { Make(); }, 0).kind(), ErrorKind::kTransport);
}

TEST_F(Nccl, AnErrorInTheCommunicatorIsSeenWhileTheStreamHangs) {
  const auto links = Make();
  links->SetPlace(2, 31);
  links->Receive(1, data_, 64, Soon());
  fake_->stream_hangs = fake_->fails_while_busy = true;
  const Error error = Broken([&] { links->Wait(Soon()); });
  EXPECT_EQ(error.kind(), ErrorKind::kTransport);
  EXPECT_EQ(error.where().at("rank"), "0");
  EXPECT_EQ(error.where().at("peer"), "1");
  EXPECT_EQ(error.where().at("stage"), "2");
  EXPECT_EQ(error.where().at("step"), "31");
}

TEST_F(Nccl, AStreamThatFailsIsTheDevices) {
  const auto links = Make();
  fake_->stream_fails = true;
  EXPECT_EQ(Broken([&] { links->Wait(Soon()); }).kind(), ErrorKind::kDevice);
}

TEST_F(Nccl, ASilentPeerIsADeadline) {
  const auto links = Make();
  fake_->stream_hangs = true;
  EXPECT_EQ(Broken([&] { links->Wait(In(milliseconds(20))); }).kind(), ErrorKind::kDeadline);
}

TEST_F(Nccl, ALostRankEndsEveryWait) {
  const auto links = Make();
  fake_->stream_hangs = true;
  ranks_[1]->Abort(Error(ErrorKind::kRank, "rank 1 was lost", {{"rank", "1"}}));
  EXPECT_EQ(Broken([&] { links->Wait(Soon()); }).kind(), ErrorKind::kRank);
}

TEST_F(Nccl, ALostRankEndsACallThatGoesOn) {
  const auto links = Make();
  fake_->hangs = true;
  ranks_[1]->Abort(Error(ErrorKind::kRank, "rank 1 was lost", {{"rank", "1"}}));
  EXPECT_EQ(Broken([&] { links->Send(1, data_, 64, Soon()); }).kind(), ErrorKind::kRank);
}

TEST_F(Nccl, AfterAnErrorNothingTouchesTheCommunicator) {
  auto links = Make();
  fake_->stream_fails = true;
  Broken([&] { links->Wait(Soon()); });
  const size_t calls = fake_->calls.size();
  EXPECT_THROW(links->Send(1, data_, 64, Soon()), Error);
  EXPECT_THROW(links->Receive(1, data_, 64, Soon()), Error);
  EXPECT_THROW(links->Wait(Soon()), Error);
  links.reset();
  EXPECT_EQ(fake_->calls.size(), calls);
  EXPECT_EQ(fake_->aborted, 1);
}

TEST_F(Nccl, AnAbortThatBlocksHoldsNobody) {
  std::promise<void> ends;
  const auto links = Make();
  fake_->abort_ends = ends.get_future().share();
  fake_->stream_hangs = true;
  const auto begin = steady_clock::now();
  Broken([&] { links->Wait(In(milliseconds(1))); }, 0);
  EXPECT_LT(steady_clock::now() - begin, std::chrono::seconds(10));
  ends.set_value();
}

TEST_F(Nccl, BytesThatAreNoIdEndTheRun) {
  FrameHeader header;
  header.channel = Channel::kSetup;
  header.kind = 3;
  header.payload_bytes = 5;
  ranks_[0]->Send(1, header, Payload::Of("short"));
  NcclOptions options;
  options.scratch = scratch_;
  options.peers = {0};
  EXPECT_THROW(NcclLinks(ApiOf(fake_), *ranks_[1], options, Soon()), Error);
  EXPECT_EQ(ranks_[0]->failure()->kind(), ErrorKind::kTransport);
  EXPECT_TRUE(fake_->calls.empty());
}

}  // namespace
}  // namespace xcomposer
