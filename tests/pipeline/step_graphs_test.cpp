#include "pipeline/step_graphs.h"

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "xcomposer/error.h"

namespace xcomposer {
namespace {

/// Writes down what happens; fails when it is told to.
class FakeRecorder final : public GraphRecorder {
 public:
  std::unique_ptr<CapturedGraph> Record(const std::function<void()>& work) override {
    log.push_back("record");
    if (error) throw Error(*error);
    recording = true;
    work();
    recording = false;
    ++alive;
    return std::make_unique<Graph>(this);
  }

  /// What a step launches.
  void Work() { log.push_back(recording ? "recorded work" : "work"); }

  std::vector<std::string> TakeLog() { return std::exchange(log, {}); }

  std::vector<std::string> log;
  std::optional<Error> error;
  bool recording = false;
  int alive = 0;

 private:
  struct Graph final : CapturedGraph {
    explicit Graph(FakeRecorder* recorder) : recorder(recorder) {}
    ~Graph() override { --recorder->alive; }
    void Replay() override { recorder->log.push_back("replay"); }
    FakeRecorder* recorder;
  };
};

using Log = std::vector<std::string>;

class StepGraphsTest : public testing::Test {
 protected:
  Log Run(StepGraphs& graphs, const DecodeShape& shape) {
    graphs.Run(shape, [this] { recorder_.Work(); });
    return recorder_.TakeLog();
  }
  FakeRecorder recorder_;
};

TEST_F(StepGraphsTest, LaunchesThenRecordsThenReplays) {
  StepGraphs graphs(recorder_, 4);
  EXPECT_EQ(Run(graphs, {1, 1}), Log({"work"}));
  EXPECT_EQ(Run(graphs, {1, 1}), Log({"record", "recorded work", "replay"}));
  EXPECT_EQ(Run(graphs, {1, 1}), Log({"replay"}));
  EXPECT_EQ(graphs.recorded(), 1u);
}

TEST_F(StepGraphsTest, ShapesAreApart) {
  StepGraphs graphs(recorder_, 4);
  Run(graphs, {1, 1});
  EXPECT_EQ(Run(graphs, {2, 1}), Log({"work"}));
  EXPECT_EQ(Run(graphs, {1, 2}), Log({"work"}));
  EXPECT_EQ(Run(graphs, {1, 1}), Log({"record", "recorded work", "replay"}));
}

TEST_F(StepGraphsTest, AStepThatThrowsIsTriedAgainAsTheFirst) {
  StepGraphs graphs(recorder_, 4);
  EXPECT_THROW(graphs.Run({1, 1}, [] { throw Error(ErrorKind::kCapacity, "full"); }), Error);
  EXPECT_EQ(Run(graphs, {1, 1}), Log({"work"}));
}

TEST_F(StepGraphsTest, WhatCannotBeRecordedIsLaunched) {
  StepGraphs graphs(recorder_, 4);
  Run(graphs, {1, 1});
  recorder_.error = Error(ErrorKind::kCapacity, "no memory");
  EXPECT_EQ(Run(graphs, {1, 1}), Log({"record", "work"}));
  recorder_.error.reset();
  EXPECT_EQ(Run(graphs, {1, 1}), Log({"work"})) << "it was tried again";
  EXPECT_EQ(graphs.recorded(), 0u);
}

TEST_F(StepGraphsTest, ALostDeviceIsNotHidden) {
  StepGraphs graphs(recorder_, 4);
  Run(graphs, {1, 1});
  recorder_.error = Error(ErrorKind::kDevice, "gone");
  EXPECT_THROW(Run(graphs, {1, 1}), Error);
  recorder_.TakeLog();
  // Nor is it asked again for what it could not do.
  EXPECT_EQ(Run(graphs, {1, 1}), Log({"work"}));
}

TEST_F(StepGraphsTest, TheOneUsedLongestAgoMakesRoom) {
  StepGraphs graphs(recorder_, 2);
  for (const int64_t blocks : {1, 2}) {
    Run(graphs, {1, blocks});
    Run(graphs, {1, blocks});
  }
  Run(graphs, {1, 1});  // now {1, 2} is the older one
  Run(graphs, {1, 4});
  Run(graphs, {1, 4});
  EXPECT_EQ(graphs.recorded(), 2u);
  EXPECT_EQ(recorder_.alive, 2);
  EXPECT_EQ(Run(graphs, {1, 1}), Log({"replay"}));
  EXPECT_EQ(Run(graphs, {1, 2}), Log({"record", "recorded work", "replay"}));
}

}  // namespace
}  // namespace xcomposer
