#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <latch>
#include <map>
#include <system_error>

#include "support/few_threads.h"
#include "workers/control.h"
#include "workers/rank_group.h"

/// Batches through stages that are threads here, alone or on several ranks.
namespace xcomposer {
namespace {

using namespace testing;  // the stand-ins
using ::testing::HasSubstr;

using Layouts = std::vector<std::vector<int>>;

const Layouts kLayouts = {{0}, {0, 0, 0}, {0, 1, 2}, {0, 0, 1}, {0, 1, 1}};

template <typename Call>
Error ErrorOf(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    return error;
  }
  throw std::runtime_error("nothing was thrown");
}

std::vector<std::vector<float>> Answers(RankGroup& group, int batches, int in_flight) {
  std::vector<std::vector<float>> answers;
  for (int i = 0; i < batches; ++i) {
    if (i >= in_flight) answers.push_back(group.leader->Collect().values);
    group.leader->Submit(StandInBatch(10 * i, 1 + i % 5), nullptr);
  }
  while (static_cast<int>(answers.size()) < batches) {
    answers.push_back(group.leader->Collect().values);
  }
  return answers;
}

TEST(Workers, WhatIsInFlightAndWhereTheStagesAreChangesNothing) {
  std::map<size_t, std::vector<std::vector<float>>> expected;  // by number of stages
  for (const std::vector<int>& layout : kLayouts) {
    for (const int in_flight : {1, 2, 5}) {
      RankGroup group(layout);
      const auto answers = Answers(group, 12, in_flight);
      const auto [known, first] = expected.emplace(layout.size(), answers);
      EXPECT_EQ(answers, known->second) << in_flight << " in flight, first: " << first;
      group.Join();
      for (const auto& end : group.ends) {
        EXPECT_FALSE(end) << end->what();
      }
    }
  }
  EXPECT_NE(expected[1], expected[3]);
}

TEST(Workers, ThreadsThatCannotBeHadAreAnException) {
  if (!kCanLimitThreads) GTEST_SKIP() << "this build's threads cannot be limited";
  const auto make = [] {
    AllowFewMoreThreads();
    try {
      RankGroup group(std::vector<int>(4000, 0));
    } catch (const std::system_error& error) {
      std::_Exit(error.code() == std::errc::resource_unavailable_try_again ? 7 : 1);
    }
    std::_Exit(2);
  };
  EXPECT_EXIT(make(), ::testing::ExitedWithCode(7), "");
}

TEST(Workers, ChosenIdsTakeThePlaceOfScores) {
  for (const std::vector<int>& layout : kLayouts) {
    RankGroup group(layout, [](int, StandInStage* body) { body->chooses = true; });
    for (const uint64_t seed : {3, 4}) {
      Batch batch = StandInBatch(7);
      batch.sequences[0].choice = IdChoice{.seed = seed};
      group.leader->Submit(std::move(batch), nullptr);
    }
    group.leader->Submit(StandInBatch(8), nullptr);
    for (const int32_t id : {3, 4}) {
      const Logits logits = group.leader->Collect();
      EXPECT_EQ(logits.rows, 1);
      EXPECT_EQ(logits.vocab, 5);
      EXPECT_TRUE(logits.values.empty());
      EXPECT_EQ(logits.chosen, std::vector<int32_t>{id});
    }
    const Logits logits = group.leader->Collect();
    EXPECT_EQ(logits.values.size(), 5u);
    EXPECT_TRUE(logits.chosen.empty());
  }
}

TEST(Workers, TensorsOfAllRanksArriveOnTheCallersThread) {
  for (const std::vector<int>& layout : Layouts{{0, 0, 0}, {0, 1, 1}, {0, 1, 2}}) {
    RankGroup group(layout);
    const auto caller = std::this_thread::get_id();
    std::map<std::string, std::vector<float>> seen;
    Batch batch = StandInBatch(7);
    batch.taps.wants = [](const std::string& name) { return name != "layer1.out"; };
    batch.taps.put = [&](Tap&& tap) {
      EXPECT_EQ(std::this_thread::get_id(), caller);
      EXPECT_EQ(tap.shape, (std::vector<int64_t>{3, 1}));
      seen[tap.name] = tap.values;
    };
    group.leader->Submit(StandInBatch(1), nullptr);
    group.leader->Submit(std::move(batch), nullptr);
    group.leader->Submit(StandInBatch(2), nullptr);
    group.leader->Collect();
    EXPECT_TRUE(seen.empty());
    const Logits logits = group.leader->Collect();
    ASSERT_EQ(seen.size(), 2u);
    ASSERT_EQ(seen.count("layer0.out"), 1u);
    EXPECT_EQ(seen["layer2.out"].back(), logits.values.front());
    group.leader->Collect();
  }
}

TEST(Workers, AStepThatFailsNamesItsStageAndTheNextOnesRun) {
  for (const std::vector<int>& layout : Layouts{{0, 0, 0}, {0, 1, 2}, {0, 1, 1}}) {
    RankGroup group(layout, [](int stage, StandInStage* body) {
      if (stage != 1) return;
      body->before_run = [](const Step& step) {
        if (step.number == 2) throw Error(ErrorKind::kCapacity, "no memory for 7 bytes");
        if (step.number == 3) throw std::bad_alloc();
      };
    });
    for (int i = 0; i < 4; ++i) {
      Batch batch = StandInBatch(i);
      batch.taps.wants = [](const std::string&) { return true; };
      group.leader->Submit(std::move(batch), nullptr);
    }
    EXPECT_EQ(group.leader->Collect().rows, 1);
    const Error error = ErrorOf([&] { group.leader->Collect(); });
    EXPECT_EQ(error.kind(), ErrorKind::kCapacity);
    EXPECT_THAT(error.what(), HasSubstr("7 bytes"));
    EXPECT_EQ(error.where().at("stage"), "1");
    EXPECT_EQ(error.where().at("step"), "2");
    if (layout.back() > 0) {
      EXPECT_EQ(error.where().at("rank"), "1");
    }
    EXPECT_EQ(ErrorOf([&] { group.leader->Collect(); }).kind(), ErrorKind::kCapacity);
    EXPECT_EQ(group.leader->Collect().rows, 1);
    group.Join();
    for (const auto& end : group.ends) {
      EXPECT_FALSE(end) << end->what();
    }
  }
}

TEST(Workers, ALostRankEndsEveryOtherWithRankStageAndStep) {
  std::latch reached(1);
  RankGroup group({0, 1, 2, 2, 3}, [&](int stage, StandInStage* body) {
    if (stage == 4) {
      body->before_run = [&](const Step& step) {
        if (step.number == 3) reached.count_down();
      };
    }
  });
  for (int i = 0; i < 3; ++i) group.leader->Submit(StandInBatch(i), nullptr);
  reached.wait();
  // What a transport does when a heartbeat stays out.
  group.transports[3]->Abort(Error(ErrorKind::kRank, "rank 2 was lost", {{"rank", "2"}}));
  std::optional<Error> seen;
  for (int i = 0; i < 3; ++i) {
    try {
      group.leader->Collect();
    } catch (const Error& error) {
      seen = error;
    }
  }
  const Error after = ErrorOf([&] { group.leader->Submit(StandInBatch(9), nullptr); });
  EXPECT_EQ(after.kind(), ErrorKind::kRank);
  EXPECT_EQ(after.where().at("rank"), "2");
  EXPECT_EQ(after.where().at("stage"), "2-3");
  EXPECT_EQ(after.where().at("step"), "3");
  EXPECT_THAT(after.what(), HasSubstr("stages 2 to 3"));
  if (seen) {
    EXPECT_EQ(seen->where().at("stage"), "2-3");
  }
  group.Join();
  for (const int rank : {1, 2, 3}) {
    ASSERT_TRUE(group.ends[static_cast<size_t>(rank)]) << rank;
    EXPECT_EQ(group.ends[static_cast<size_t>(rank)]->kind(), ErrorKind::kRank);
    EXPECT_EQ(group.ends[static_cast<size_t>(rank)]->where().at("stage"), "2-3");
  }
}

TEST(Workers, ARankThatIsAskedToEndEndsTheRun) {
  RankGroup group({0, 1, 2});
  EXPECT_EQ(group.Forward(StandInBatch(1)).size(), 5u);
  group.stop = true;
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (!group.transports[0]->failure() && std::chrono::steady_clock::now() < until) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  const Error error = ErrorOf([&] { group.leader->Submit(StandInBatch(1), nullptr); });
  EXPECT_EQ(error.kind(), ErrorKind::kCancelled);
  EXPECT_EQ(error.where().count("rank"), 1u);
}

TEST(Workers, AFrameOfAnotherStepOrSizeEndsTheRun) {
  const auto spoilt = [](const std::function<void(FrameHeader*, Payload*)>& spoil) {
    auto transports = MakeInProcessTransports(2);
    std::shared_ptr<Transport> other = std::move(transports[1]);
    Leader::Options options;
    options.layout = StageLayout({0, 1}, 2);
    options.transport = std::move(transports[0]);
    options.limits = StandInLimits(2);
    options.hidden_bytes = sizeof(float);
    std::vector<std::unique_ptr<StageBody>> bodies;
    bodies.push_back(std::make_unique<StandInStage>(0, 5));
    Leader leader(std::move(bodies), std::move(options));
    leader.Submit(StandInBatch(1), nullptr);
    FrameHeader header;
    header.channel = Channel::kLogits;
    header.step = 1;
    header.rows = 1;
    Payload payload = Payload::Allocate(5 * sizeof(float));
    std::memset(payload.data, 0, static_cast<size_t>(payload.size));
    spoil(&header, &payload);
    header.payload_bytes = payload.size;
    other->Send(0, header, payload);
    other->Send(0, ControlHeader(ControlKind::kBye, 0, {}), {});  // nobody is there to answer later
    leader.Collect();
  };
  EXPECT_NO_THROW(spoilt([](FrameHeader*, Payload*) {}));
  const std::vector<std::function<void(FrameHeader*, Payload*)>> spoils = {
      [](FrameHeader* h, Payload*) { h->step = 2; },
      [](FrameHeader* h, Payload*) { h->rows = 2; },
      [](FrameHeader* h, Payload*) { h->kind = 9; },
      [](FrameHeader* h, Payload*) { h->rows = INT64_MAX; },
      [](FrameHeader*, Payload* p) { *p = Payload::Allocate(19); },
      [](FrameHeader* h, Payload*) { h->kind = static_cast<uint16_t>(FrameKind::kIds); },
      [](FrameHeader* h, Payload* p) {
        h->kind = static_cast<uint16_t>(FrameKind::kIds);
        *p = Payload::Of(std::string("\5\0\0\0", 4));  // of a vocabulary of 5
      },
      [](FrameHeader* h, Payload* p) {
        h->kind = static_cast<uint16_t>(FrameKind::kStepFailed);
        *p = Payload::Of("no reason");
      }};
  for (const auto& spoil : spoils) {
    EXPECT_EQ(ErrorOf([&] { spoilt(spoil); }).kind(), ErrorKind::kTransport);
  }
}

TEST(Workers, CallsOnTheFirstStageComeBehindItsStepsAndThrowHere) {
  std::atomic<int> ran{0};
  RankGroup group({0, 1}, [&](int stage, StandInStage* body) {
    if (stage == 0) body->before_run = [&](const Step&) { ++ran; };
  });
  for (int i = 0; i < 3; ++i) group.leader->Submit(StandInBatch(i), nullptr);
  int seen = 0;
  group.leader->CallOnFirst([&] { seen = ran; });
  EXPECT_EQ(seen, 3);
  const auto fail = [] { throw Error(ErrorKind::kImage, "too dark"); };
  EXPECT_EQ(ErrorOf([&] { group.leader->CallOnFirst(fail); }).kind(), ErrorKind::kImage);
  for (int i = 0; i < 3; ++i) group.leader->Collect();
  group.transports[1]->Abort(Error(ErrorKind::kRank, "gone", {{"rank", "1"}}));
  EXPECT_EQ(ErrorOf([&] { group.leader->CallOnFirst([] {}); }).kind(), ErrorKind::kRank);
}

TEST(StageLayout, RefusesWhatCannotBeDriven) {
  const auto refused = [](std::vector<int> ranks, int world) {
    return std::string(ErrorOf([&] { StageLayout(std::move(ranks), world); }).what());
  };
  EXPECT_THAT(refused({}, 1), HasSubstr("no stage"));
  EXPECT_THAT(refused({1, 0}, 2), HasSubstr("must be on rank 0"));
  EXPECT_THAT(refused({0, 2}, 2), HasSubstr("ranks 0 to 1"));
  EXPECT_THAT(refused({0, -1}, 2), HasSubstr("ranks 0 to 1"));
  EXPECT_THAT(refused({0, 1, 0}, 2), HasSubstr("follow each other"));
  EXPECT_THAT(refused({0, 0, 1}, 3), HasSubstr("rank 2 was given no stage"));
  EXPECT_EQ(StageLayout({0, 2, 2, 1}, 3).StagesOf(2), "stages 1 to 2");
}

}  // namespace
}  // namespace xcomposer
