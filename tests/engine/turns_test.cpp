#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include "engine/scheduler_fixture.h"

/// Whose rows make the next batch, and what comes between two batches: nobody starves.
namespace xcomposer {
namespace {

using namespace testing;  // the fixture of this folder

class TurnsTest : public ::testing::Test {
 protected:
  /// Answers that fill every batch and end long after everything else.
  void StartBusy(size_t answers, int64_t batch_rows) {
    auto executor = std::make_unique<StandInExecutor>(ExecutorLimits{40, 400, 4, batch_rows});
    executor->before_forward = [this](const Batch& batch) {
      gate_.Pass();
      order_ += batch.taps.wants ? "traced " : "batch ";
    };
    executor->before_encode = [this](const Picture&) { order_ += "picture "; };
    scheduler_ = std::make_unique<Scheduler>(std::move(executor), OptionsWithBase());
    for (size_t i = 0; i < answers; ++i) {
      busy_.push_back(scheduler_->Submit(TextJob({static_cast<int32_t>(i)}, Greedy(300))));
    }
    gate_.AwaitArrival();
  }

  /// `job` comes while all others are at work, and must end before any of them.
  void ExpectFirstToEnd(Job job) {
    scheduler_->Submit(std::move(job), [this](const JobEvent& event) {
      if (!event.last()) return;
      if (event.result) end_ = event.result->finish;
      for (const JobId id : busy_) scheduler_->Cancel(id);
    });
    gate_.Open();
    for (const JobId id : busy_) {
      const Outcome outcome = WaitFor(*scheduler_, id);
      ASSERT_TRUE(outcome.result) << outcome.error->what();
      EXPECT_EQ(outcome.result->finish, JobFinish::kCancelled);
    }
    scheduler_->Shutdown();  // the callback may still be at work
    EXPECT_EQ(end_, JobFinish::kLength);
  }

  size_t Count(const std::string& what) const {
    size_t count = 0;
    for (size_t at = order_.find(what); at != std::string::npos; at = order_.find(what, at + 1)) {
      ++count;
    }
    return count;
  }

  Gate gate_;
  std::string order_;  // of all that the executor does
  std::vector<JobId> busy_;
  std::optional<JobFinish> end_;
  std::unique_ptr<Scheduler> scheduler_;
};

TEST_F(TurnsTest, APromptIsReadBesideAnswersThatFillEveryBatch) {
  StartBusy(2, 2);
  ExpectFirstToEnd(TextJob({3, 4, 5, 6}, Greedy(1)));
}

TEST_F(TurnsTest, AnswersThatDoNotAllFitTakeTurns) {
  StartBusy(2, 2);
  ExpectFirstToEnd(TextJob({3}, Greedy(5)));
}

TEST_F(TurnsTest, AnswersGoOnBetweenTheBatchesOfATracedPrompt) {
  StartBusy(1, 4);
  Job traced = TextJob(std::vector<int32_t>(20, 3), Greedy(1));
  traced.taps.wants = [](const std::string& name) { return name == "layer0.out"; };
  traced.taps.put = [](Tap&&) {};
  ExpectFirstToEnd(std::move(traced));
  EXPECT_EQ(Count("traced"), 5u);
  EXPECT_EQ(Count("traced traced"), 0u) << order_;
}

TEST_F(TurnsTest, AnswersGoOnBetweenThePicturesOfAPrompt) {
  StartBusy(1, 16);
  Job pictures = TextJob({3}, Greedy(1));
  for (const uint8_t shade : {1, 2, 3}) AppendPicture(&pictures, TestPicture(4, shade), 4);
  ExpectFirstToEnd(std::move(pictures));
  EXPECT_EQ(Count("picture"), 3u);
  EXPECT_EQ(Count("picture picture"), 0u) << order_;
}

}  // namespace
}  // namespace xcomposer
