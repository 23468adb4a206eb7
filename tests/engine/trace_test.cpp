#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>

#include "engine/scheduler_fixture.h"

/// Intermediate tensors, text and `forward` as jobs give them.
namespace xcomposer {
namespace {

using namespace testing;  // the fixture of this folder

std::unique_ptr<Scheduler> MakeScheduler(int64_t batch_rows) {
  const ExecutorLimits limits{40, 400, 4, batch_rows};
  return std::make_unique<Scheduler>(std::make_unique<StandInExecutor>(limits), OptionsWithBase());
}

struct Recorder {
  std::set<std::string> wanted;
  std::map<std::string, Tap> taps;

  TapSink Sink() {
    TapSink sink;
    sink.wants = [this](const std::string& name) { return wanted.contains(name); };
    sink.put = [this](Tap&& tap) {
      EXPECT_FALSE(taps.contains(tap.name)) << tap.name << " came twice";
      taps[tap.name] = std::move(tap);
    };
    return sink;
  }
};

Job TracedJob(Recorder* recorder) {
  Job job = TextJob({1, 5, 9, 3}, Greedy(6));
  AppendPicture(&job, TestPicture(7, 3), 7);
  job.ids.insert(job.ids.end(), {4, 4});
  job.taps = recorder->Sink();
  return job;
}

TEST(Trace, APromptInChunksGivesWholeTensors) {
  Recorder whole{{"image0.rgb", "layer0.out", "im_mask", "logits"}, {}};
  const Outcome expected = RunJob(*MakeScheduler(64), TracedJob(&whole));
  ASSERT_EQ(whole.taps.size(), 4u);
  EXPECT_EQ(whole.taps["image0.rgb"].shape, (std::vector<int64_t>{1, 7, 3}));
  EXPECT_EQ(whole.taps["layer0.out"].shape, (std::vector<int64_t>{13, 1}));
  EXPECT_EQ(whole.taps["im_mask"].bytes,
            (std::vector<uint8_t>{0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 0, 0}));
  EXPECT_EQ(whole.taps["logits"].shape, (std::vector<int64_t>{6, 40}));
  for (const int64_t rows : {1, 3, 6, 12}) {
    Recorder chunked{whole.wanted, {}};
    const Outcome outcome = RunJob(*MakeScheduler(rows), TracedJob(&chunked));
    ASSERT_TRUE(outcome.result) << outcome.error->what();
    EXPECT_EQ(outcome.result->output_ids, expected.result->output_ids);
    ASSERT_EQ(chunked.taps.size(), 4u);
    for (const auto& [name, tap] : whole.taps) {
      EXPECT_EQ(chunked.taps[name].shape, tap.shape) << name;
      EXPECT_EQ(chunked.taps[name].values, tap.values) << name;
      EXPECT_EQ(chunked.taps[name].bytes, tap.bytes) << name;
    }
  }
}

TEST(Trace, OthersRunBesideATracedJobAndNeitherNoticesTheOther) {
  Recorder alone{{"layer0.out"}, {}};
  const Outcome expected = RunJob(*MakeScheduler(5), TracedJob(&alone));
  const auto scheduler = MakeScheduler(5);
  const Outcome other = RunJob(*scheduler, TextJob({1, 2, 3}, Greedy(40)));
  Recorder together{{"layer0.out"}, {}};
  const JobId busy = scheduler->Submit(TextJob({1, 2, 3}, Greedy(40)));
  const JobId traced = scheduler->Submit(TracedJob(&together));
  const JobId late = scheduler->Submit(TextJob({1, 2, 3}, Greedy(40)));
  EXPECT_EQ(WaitFor(*scheduler, traced).result->output_ids, expected.result->output_ids);
  EXPECT_EQ(together.taps["layer0.out"].values, alone.taps["layer0.out"].values);
  EXPECT_EQ(WaitFor(*scheduler, busy).result->output_ids, other.result->output_ids);
  EXPECT_EQ(WaitFor(*scheduler, late).result->output_ids, other.result->output_ids);
}

TEST(Trace, ATracedJobTakesTurnsWithTheOthers) {
  auto executor = std::make_unique<StandInExecutor>(SmallLimits());
  Gate gate;
  executor->before_forward = [&](const Batch&) { gate.Pass(); };
  Scheduler scheduler(std::move(executor), OptionsWithBase());
  const JobId busy = scheduler.Submit(TextJob({1, 2, 3}, Greedy(400)));
  gate.AwaitArrival();
  Recorder recorder{{"layer0.out"}, {}};
  const JobId traced = scheduler.Submit(TracedJob(&recorder));
  gate.Allow(40);  // far fewer batches than the other job needs
  EXPECT_TRUE(WaitFor(scheduler, traced).result);
  EXPECT_TRUE(scheduler.Cancel(busy)) << "it was over before the traced one";
  gate.Open();
}

TEST(Trace, APromptThatIsCancelledHalfWayGivesNoTensors) {
  auto executor = std::make_unique<StandInExecutor>(ExecutorLimits{40, 400, 4, 5});
  Gate gate;
  executor->before_forward = [&](const Batch&) { gate.Pass(); };
  Scheduler scheduler(std::move(executor), OptionsWithBase());
  Recorder recorder{{"layer0.out", "im_mask"}, {}};
  const JobId id = scheduler.Submit(TracedJob(&recorder));  // three batches
  gate.Allow(1);
  gate.AwaitArrival(2);
  scheduler.Cancel(id);
  gate.Open();
  EXPECT_EQ(WaitFor(scheduler, id).result->finish, JobFinish::kCancelled);
  EXPECT_TRUE(recorder.taps.empty());
}

TEST(Trace, BeamsKeepAllTheirScoresAndStartAlike) {
  Recorder recorder{{"logits"}, {}};
  Job job = TracedJob(&recorder);
  job.search.num_beams = 3;
  RunJob(*MakeScheduler(16), std::move(job));
  const Tap& logits = recorder.taps["logits"];
  ASSERT_EQ(logits.shape, (std::vector<int64_t>{6, 3, 40}));
  const auto row = [&](int64_t step, int64_t beam) {
    const auto begin = logits.values.begin() + (step * 3 + beam) * 40;
    return std::vector<float>(begin, begin + 40);
  };
  EXPECT_EQ(row(0, 0), row(0, 1));
  EXPECT_EQ(row(0, 0), row(0, 2));
  EXPECT_NE(row(1, 0), row(1, 1));
}

TEST(Trace, ForwardGivesTheScoresOfEveryRowAndNoIds) {
  for (const int64_t rows : {4, 64}) {
    const auto scheduler = MakeScheduler(rows);
    Recorder recorder{{"prefill_logits", "layer0.out"}, {}};
    Job job = TracedJob(&recorder);
    job.call = JobCall::kForward;
    job.penalty_ids.clear();         // nothing is searched
    job.search.max_new_tokens = -1;  // nor looked at
    const Outcome outcome = RunJob(*scheduler, std::move(job));
    ASSERT_TRUE(outcome.result) << outcome.error->what();
    EXPECT_TRUE(outcome.result->output_ids.empty());
    ASSERT_EQ(recorder.taps["prefill_logits"].shape, (std::vector<int64_t>{13, 40}));
    EXPECT_EQ(recorder.taps["layer0.out"].shape, (std::vector<int64_t>{13, 1}));
    // Its last row is what a chat chooses its first id from.
    Recorder chat{{"logits"}, {}};
    RunJob(*scheduler, TracedJob(&chat));
    const auto& all = recorder.taps["prefill_logits"].values;
    const auto& steps = chat.taps["logits"].values;
    EXPECT_EQ(std::vector<float>(all.end() - 40, all.end()),
              std::vector<float>(steps.begin(), steps.begin() + 40));
    EXPECT_EQ(scheduler->stats().free_kv_blocks, 400);
  }
}

TEST(Trace, ForwardWithoutListenersRuns) {
  Job job = TextJob({1, 2, 3}, {});
  job.call = JobCall::kForward;
  EXPECT_TRUE(RunJob(*MakeScheduler(2), std::move(job)).result);
}

/// Shows id 7 as "seven " when the next id is known, stops after the word given.
class WordStream : public TextStream {
 public:
  explicit WordStream(int32_t stop_id) : stop_id_(stop_id) {}

  Piece Push(int32_t id) override {
    const Piece piece{held_, id == stop_id_};
    held_ = std::to_string(id) + " ";
    return piece;
  }
  std::string Finish() override { return held_; }

 private:
  int32_t stop_id_;
  std::string held_;
};

std::string Words(const std::vector<int32_t>& ids) {
  std::string words;
  for (const int32_t id : ids) words += std::to_string(id) + " ";
  return words;
}

TEST(Text, ThePiecesJoinedAreTheText) {
  for (const int64_t beams : {1, 3}) {
    const auto scheduler = MakeScheduler(16);
    Job job = TextJob({1, 2, 3}, Greedy(10));
    job.search.num_beams = beams;
    job.text = std::make_unique<WordStream>(-1);
    const Outcome outcome = RunJob(*scheduler, std::move(job));
    std::string joined;
    std::vector<int32_t> ids;
    for (const JobEvent& event : outcome.events) {
      joined += event.text;
      ids.insert(ids.end(), event.ids.begin(), event.ids.end());
    }
    EXPECT_EQ(joined, outcome.result->text);
    EXPECT_EQ(ids, outcome.result->output_ids);
    EXPECT_EQ(outcome.result->text, Words(ids));
    EXPECT_EQ(ids.size(), 10u);
  }
}

TEST(Text, AStopStringEndsTheAnswerWithTheIdThatCompletesIt) {
  for (const int64_t beams : {1, 3}) {
    const auto scheduler = MakeScheduler(16);
    Job job = TextJob({1, 2, 3}, Greedy(10));
    job.search.num_beams = beams;
    const auto ids = RunJob(*scheduler, std::move(job)).result->output_ids;
    job = TextJob({1, 2, 3}, Greedy(10));
    job.search.num_beams = beams;
    job.text = std::make_unique<WordStream>(ids[4]);
    const Outcome outcome = RunJob(*scheduler, std::move(job));
    const auto stop = std::find(ids.begin(), ids.end(), ids[4]) + 1;
    EXPECT_EQ(outcome.result->output_ids, std::vector<int32_t>(ids.begin(), stop));
    EXPECT_EQ(outcome.result->text, Words(outcome.result->output_ids));
    EXPECT_EQ(outcome.result->finish, JobFinish::kStop);
  }
}

}  // namespace
}  // namespace xcomposer
