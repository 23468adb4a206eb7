// The state machine over NCCL, against one that fails, hangs and is late.
#include <gtest/gtest.h>

#include <tuple>

#include "transport/fake_nccl.h"
#include "transport/in_process.h"
#include "transport/nccl_link.h"
#include "transport/setup_frames.h"

namespace xcomposer {
namespace {

using End = NcclOptions::End;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

TimePoint In(milliseconds time) { return steady_clock::now() + time; }
TimePoint Soon() { return In(std::chrono::seconds(20)); }

// Two ranks, of which the tests drive rank 0.
class Nccl : public ::testing::Test {
 protected:
  std::unique_ptr<NcclLink> Make(TimePoint until = Soon(), End end = End::kSends) {
    if (end == End::kReceives) SendId(*ranks_[1], 0, std::string(128, 'u'));
    return std::make_unique<NcclLink>(ApiOf(fake_), *ranks_[0], Options(1, end), until);
  }

  NcclOptions Options(int peer, End end) {
    return {.peer = peer, .end = end, .scratch = scratch_, .abort_timeout = milliseconds(100)};
  }

  static void SendId(Transport& from, int to, const std::string& bytes) {
    SendSetup(from, to, SetupKind::kUniqueId, Payload::Of(bytes));
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

TEST_F(Nccl, TheEndsShareTheIdOfTheOneThatSendsAndWarmUpTheirWay) {
  const auto ranks = MakeInProcessTransports(4);
  const std::vector<std::string> calls[] = {{"init 0/2", "send>1:8"}, {"init 1/2", "receive<0:8"}};
  for (const auto& [own, peer, end] :
       {std::tuple{3, 1, End::kSends}, std::tuple{1, 3, End::kReceives}}) {
    const auto fake = std::make_shared<FakeNccl>();
    const NcclLink link(ApiOf(fake), *ranks[static_cast<size_t>(own)], Options(peer, end), Soon());
    EXPECT_EQ(fake->calls, calls[end == End::kReceives]);
    EXPECT_EQ(fake->id.bytes[127], 'u');
  }
}

TEST_F(Nccl, LateCompletionsAreWaitedFor) {
  fake_->polls_until_done = 5;
  fake_->stream_polls = 7;
  const auto link = Make();
  link->Send(data_, 64, Soon());
  link->Send(data_, 32, Soon());
  link->Wait(Soon());
  EXPECT_EQ(fake_->calls.back(), "send>1:32");
  EXPECT_FALSE(ranks_[0]->failure().has_value());
}

TEST_F(Nccl, AnEndGoesOneWay) {
  EXPECT_THROW(Make()->Receive(data_, 8, Soon()), Error);
  EXPECT_THROW(Make(Soon(), End::kReceives)->Send(data_, 8, Soon()), Error);
}

TEST_F(Nccl, AGoodRunEndsWithoutForce) {
  fake_->polls_until_done = 3;
  Make().reset();
  EXPECT_EQ(fake_->calls.back(), "finalize");
  EXPECT_EQ(fake_->destroyed, 1);
  EXPECT_EQ(fake_->aborted, 0);
}

TEST_F(Nccl, AnEndThatHangsIsForced) {
  auto link = Make();
  fake_->hangs = true;
  link.reset();
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
  for (const auto& [call, end] :
       {std::pair{"init 0/2", End::kSends}, std::pair{"send>1:8", End::kSends},
        std::pair{"send>1:64", End::kSends}, std::pair{"init 1/2", End::kReceives},
        std::pair{"receive<0:8", End::kReceives}, std::pair{"receive<0:64", End::kReceives}}) {
    SCOPED_TRACE(call);
    ranks_ = MakeInProcessTransports(2);
    fake_->fails = call;
    fake_->aborted = 0;
    const Error error = Broken([&, end = end] {
      const auto link = Make(Soon(), end);
      if (end == End::kSends) link->Send(data_, 64, Soon());
      if (end == End::kReceives) link->Receive(data_, 64, Soon());
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
  const auto link = Make(Soon(), End::kReceives);
  link->SetPlace(2, 31);
  link->Receive(data_, 64, Soon());
  fake_->stream_hangs = fake_->fails_while_busy = true;
  const Error error = Broken([&] { link->Wait(Soon()); });
  EXPECT_EQ(error.kind(), ErrorKind::kTransport);
  EXPECT_EQ(error.where().at("rank"), "0");
  EXPECT_EQ(error.where().at("peer"), "1");
  EXPECT_EQ(error.where().at("stage"), "2");
  EXPECT_EQ(error.where().at("step"), "31");
}

TEST_F(Nccl, AStreamThatFailsIsTheDevices) {
  const auto link = Make();
  fake_->stream_fails = true;
  EXPECT_EQ(Broken([&] { link->Wait(Soon()); }).kind(), ErrorKind::kDevice);
}

TEST_F(Nccl, ASilentPeerIsADeadline) {
  const auto link = Make();
  fake_->stream_hangs = true;
  EXPECT_EQ(Broken([&] { link->Wait(In(milliseconds(20))); }).kind(), ErrorKind::kDeadline);
}

TEST_F(Nccl, ALostRankEndsEveryWait) {
  const auto link = Make();
  fake_->stream_hangs = true;
  ranks_[1]->Abort(Error(ErrorKind::kRank, "rank 1 was lost", {{"rank", "1"}}));
  EXPECT_EQ(Broken([&] { link->Wait(Soon()); }).kind(), ErrorKind::kRank);
}

TEST_F(Nccl, ALostRankEndsACallThatGoesOn) {
  const auto link = Make();
  fake_->hangs = true;
  ranks_[1]->Abort(Error(ErrorKind::kRank, "rank 1 was lost", {{"rank", "1"}}));
  EXPECT_EQ(Broken([&] { link->Send(data_, 64, Soon()); }).kind(), ErrorKind::kRank);
}

TEST_F(Nccl, AfterAnErrorNothingTouchesTheCommunicator) {
  auto link = Make();
  fake_->stream_fails = true;
  Broken([&] { link->Wait(Soon()); });
  const size_t calls = fake_->calls.size();
  EXPECT_THROW(link->Send(data_, 64, Soon()), Error);
  EXPECT_THROW(link->Wait(Soon()), Error);
  link.reset();
  EXPECT_EQ(fake_->calls.size(), calls);
  EXPECT_EQ(fake_->aborted, 1);
}

TEST_F(Nccl, AnAbortThatBlocksHoldsNobody) {
  std::promise<void> ends;
  const auto link = Make();
  fake_->abort_ends = ends.get_future().share();
  fake_->stream_hangs = true;
  const auto begin = steady_clock::now();
  Broken([&] { link->Wait(In(milliseconds(1))); }, 0);
  EXPECT_LT(steady_clock::now() - begin, std::chrono::seconds(10));
  ends.set_value();
}

TEST_F(Nccl, BytesThatAreNoIdEndTheRun) {
  for (const size_t size : {0u, 5u, 127u, 129u, 4096u}) {
    ranks_ = MakeInProcessTransports(2);
    SendId(*ranks_[0], 1, std::string(size, 'u'));
    EXPECT_THROW(NcclLink(ApiOf(fake_), *ranks_[1], Options(0, End::kReceives), Soon()), Error);
    EXPECT_EQ(ranks_[0]->failure()->kind(), ErrorKind::kTransport) << size;
    EXPECT_TRUE(fake_->calls.empty());
  }
}

TEST_F(Nccl, NoIdIsADeadlineThatNamesTheRank) {
  try {
    NcclLink(ApiOf(fake_), *ranks_[0], Options(1, End::kReceives), In(milliseconds(20)));
    ADD_FAILURE() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kDeadline);
    EXPECT_EQ(error.where().at("rank"), "1");
  }
}

}  // namespace
}  // namespace xcomposer
