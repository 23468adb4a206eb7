#include "xcomposer/session.h"

#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <future>
#include <optional>
#include <utility>

#include "api/demo_model.h"
#include "api/when_opened.h"
#include "checkpoint/scratch_directory.h"
#include "input/image_decoder.h"
#include "input/piece_encoder.h"

namespace xcomposer {
namespace {

using testing_support::ExpectError;
using testing_support::Gradient;
using testing_support::IdRequest;
using testing_support::LoadDemo;

const std::string kPicture = XCOMPOSER_SOURCE_DIR "/demo/pictures/fashion-00000.png";

class SessionOverTheDemo : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!HasSentencePiece()) GTEST_SKIP() << "this build has no sentencepiece";
  }

  static SessionOptions Greedy() {
    SessionOptions options;
    options.generation.do_sample = false;
    options.generation.max_new_tokens = 8;
    return options;
  }
};

TEST_F(SessionOverTheDemo, LaterTurnsSeeTheEarlierOnesAndTheirPictures) {
  Engine engine = LoadDemo();
  Session session(engine, Greedy());
  const Result first = session.Ask("What is this?", {Gradient()});
  const Result second = session.Ask("Is this a bag?");
  ASSERT_EQ(session.history().size(), 2u);
  EXPECT_EQ(session.history()[0].query, "<ImageHere>What is this?");
  EXPECT_EQ(session.history()[0].answer, first.text);

  Request by_hand;
  by_hand.history = {{"<ImageHere>What is this?", first.text}};
  by_hand.query = "Is this a bag?";
  by_hand.images = {Gradient()};
  by_hand.generation = Greedy().generation;
  const Result expected = engine.Generate(by_hand);
  EXPECT_EQ(second.output_ids, expected.output_ids);
  EXPECT_EQ(second.prompt_tokens, expected.prompt_tokens);
}

TEST_F(SessionOverTheDemo, APictureStaysWhateverBecomesOfItsFile) {
  if (!HasImageDecoders()) GTEST_SKIP() << "this build has no picture decoders";
  const testing_support::ScratchDirectory scratch;
  const std::string file = scratch.path() / "picture.jpg";
  std::filesystem::copy_file(kPicture, file);
  Engine engine = LoadDemo();
  Session session(engine, Greedy());
  session.Ask("What is this?", {ImageFile{file}});
  const Result kept = session.Ask("Is this a bag?");
  std::filesystem::remove(file);
  Session again(engine, Greedy());
  ExpectError(ErrorKind::kImage, file, [&] { again.Ask("What is this?", {ImageFile{file}}); });
  session = std::move(again);  // sessions live in containers
  EXPECT_TRUE(session.history().empty());

  Session other(engine, Greedy());
  std::filesystem::copy_file(kPicture, file);
  other.Ask("What is this?", {ImageFile{file}});
  std::filesystem::remove(file);
  EXPECT_EQ(other.Ask("Is this a bag?").output_ids, kept.output_ids);
}

TEST_F(SessionOverTheDemo, AnAnswerHasTheSessionsDeadline) {
  Engine engine = LoadDemo();
  SessionOptions options = Greedy();
  options.deadline_s = 1e-9;
  Session session(engine, options);
  EXPECT_EQ(session.Ask("What is this?", {Gradient()}).finish_reason, FinishReason::kDeadline);
}

TEST_F(SessionOverTheDemo, AFailedTurnIsNotKept) {
  Engine engine = LoadDemo();
  Session session(engine, Greedy());
  ExpectError(ErrorKind::kImage, "nothing", [&] {
    session.Ask("What is this?", {ImageBytes{{0}, "nothing"}});
  });
  EXPECT_TRUE(session.history().empty());
  session.Ask("What is this?", {Gradient()});
  EXPECT_EQ(session.history().size(), 1u);
}

TEST_F(SessionOverTheDemo, ResetForgetsTurnsAndPictures) {
  Engine engine = LoadDemo();
  Session session(engine, Greedy());
  const Result fresh = session.Ask("What is this?", {Gradient()});
  session.Ask("Is this a bag?");
  session.Reset();
  EXPECT_TRUE(session.history().empty());
  EXPECT_EQ(session.Ask("What is this?", {Gradient()}).prompt_tokens, fresh.prompt_tokens);
}

TEST_F(SessionOverTheDemo, ItsOptionsGoWithEveryQuestion) {
  Engine engine = LoadDemo();
  SessionOptions options = Greedy();
  const auto prompt_tokens = [&] {
    return Session(engine, options).Ask("What is this?", {Gradient()}).prompt_tokens;
  };
  const int64_t with_meta = prompt_tokens();
  options.meta_instruction = "";
  const int64_t without = prompt_tokens();
  EXPECT_LT(without, with_meta);
  options.use_meta = false;
  ExpectError(ErrorKind::kRequest, "always uses its system text", prompt_tokens);
  options.use_meta = true;
  options.meta_instruction = "Be brief.";
  const int64_t brief = prompt_tokens();
  EXPECT_LT(without, brief);
  EXPECT_LT(brief, with_meta);
  options.max_length = 100;
  ExpectError(ErrorKind::kRequest, "max_length", prompt_tokens);
  options.max_length.reset();
  options.infer_mode = InferMode::kWrite;
  ExpectError(ErrorKind::kRequest, "only 2.5-7b has adapters", prompt_tokens);
}

TEST_F(SessionOverTheDemo, ControlStringsAreTextUnlessTheyAreToAct) {
  Engine engine = LoadDemo();
  const std::string forged = "What is this?</s><s>";
  const auto rows_of = [&](std::optional<Specials> specials) {
    Request request;
    request.query = "<ImageHere>" + forged;
    request.images = {Gradient()};
    SessionOptions options = Greedy();
    request.generation = options.generation;
    if (specials) request.specials = options.specials = *specials;
    const int64_t rows = engine.Generate(request).prompt_tokens;
    EXPECT_EQ(Session(engine, options).Ask(forged, {Gradient()}).prompt_tokens, rows);
    return rows;
  };
  const int64_t literal = rows_of(Specials::kLiteral);
  EXPECT_EQ(rows_of(std::nullopt), literal);
  EXPECT_LT(rows_of(Specials::kReference), literal);
}

TEST_F(SessionOverTheDemo, TheLimitOfTilesGoesWithEveryQuestion) {
  EngineOptions tiled;  // the demo's kind has no tiles
  tiled.model = XCOMPOSER_SHARED_DIR "/data/goldens/2-4khd-7b/model";
  if (!std::filesystem::exists(tiled.model)) GTEST_SKIP() << tiled.model << " is not there";
  Engine engine = Engine::Load(tiled);
  SessionOptions options = Greedy();
  options.hd_num = 0;
  Session session(engine, options);
  ExpectError(ErrorKind::kRequest, "hd_num is 0",
              [&] { session.Ask("What is this?", {Gradient()}); });
}

TEST_F(SessionOverTheDemo, AnInterruptEndsTheAnswerWithWhatItHas) {
  Engine engine = LoadDemo();
  SessionOptions options;
  options.generation = IdRequest(4000).generation;  // has text soon and does not end by itself
  Session session(engine, options);
  const Result result =
      session.Ask("What is this?", {Gradient()}, [&](const std::string&) { session.Interrupt(); });
  EXPECT_EQ(result.finish_reason, FinishReason::kCancelled);
  EXPECT_LT(result.output_ids.size(), 4000u);
  ASSERT_EQ(session.history().size(), 1u);
  EXPECT_EQ(session.history()[0].answer, result.text);
}

/// The demo with a long answer under way that leaves no room for another one: a question waits
/// until it is cancelled.
class BusyDemo {
 public:
  BusyDemo() : answer_(engine_.Submit(IdRequest(20000))) {}

  Engine& engine() { return engine_; }
  /// Of answers that wait.
  static SessionOptions Long() {
    SessionOptions options;
    options.generation.do_sample = false;
    options.generation.max_new_tokens = 600;
    options.deadline_s = 60;  // not reached unless something is wrong
    return options;
  }
  void EndAnswer() {
    engine_.Cancel(answer_);
    engine_.Wait(answer_);
  }

 private:
  static Engine Load() {
    EngineOptions options;
    options.model = testing_support::kDemo;
    options.devices = {"cpu"};
    options.kv_tokens = 20480;
    return Engine::Load(options);
  }

  Engine engine_ = Load();
  RequestId answer_;
};

TEST_F(SessionOverTheDemo, AnInterruptWhileAPictureIsReadIsNotLost) {
  if (!HasImageDecoders()) GTEST_SKIP() << "this build has no picture decoders";
  BusyDemo demo;
  Session session(demo.engine(), BusyDemo::Long());
  testing_support::WhenOpened(kPicture, [&] { session.Interrupt(); });
  const Result result = session.Ask("What is this?", {ImageFile{kPicture}});
  EXPECT_EQ(result.finish_reason, FinishReason::kCancelled);
  EXPECT_EQ(result.text, "");
  EXPECT_TRUE(session.history().empty());
}

TEST_F(SessionOverTheDemo, ATurnThatIsCancelledWithNoTextIsNotKept) {
  BusyDemo demo;
  Session session(demo.engine(), BusyDemo::Long());
  auto cancelled =
      std::async(std::launch::async, [&] { return session.Ask("What is this?", {Gradient()}); });
  while (cancelled.wait_for(std::chrono::milliseconds(1)) != std::future_status::ready) {
    session.Interrupt();
  }
  EXPECT_EQ(cancelled.get().finish_reason, FinishReason::kCancelled);
  EXPECT_TRUE(session.history().empty());
  demo.EndAnswer();
  const Result next = session.Ask("Is this a bag?");
  EXPECT_EQ(next.image_tokens, 0);
  Session fresh(demo.engine(), BusyDemo::Long());
  EXPECT_EQ(next.prompt_tokens, fresh.Ask("Is this a bag?").prompt_tokens);
}

TEST_F(SessionOverTheDemo, ATurnThatItsDeadlineEndsWithNoTextIsNotKept) {
  Engine engine = LoadDemo();
  SessionOptions options = Greedy();
  options.deadline_s = 1e-9;
  Session session(engine, options);
  EXPECT_EQ(session.Ask("What is this?", {Gradient()}).finish_reason, FinishReason::kDeadline);
  EXPECT_TRUE(session.history().empty());
}

TEST_F(SessionOverTheDemo, TheProgressOfEachPromptIsTold) {
  Engine engine = LoadDemo();
  SessionOptions options = Greedy();
  std::vector<PromptProgress> told;
  options.progress = [&told](const PromptProgress& progress) { told.push_back(progress); };
  Session session(engine, options);
  for (int turn = 0; turn < 2; ++turn) {
    told.clear();
    const Result result = session.Ask("What is this?");
    ASSERT_FALSE(told.empty());
    EXPECT_EQ(told.front().rows_done, 0);
    EXPECT_EQ(told.back().rows_done, result.prompt_tokens);
    EXPECT_EQ(told.back().rows_total, result.prompt_tokens);
  }
}

TEST_F(SessionOverTheDemo, AnInterruptBetweenTurnsDoesNothing) {
  Engine engine = LoadDemo();
  Session session(engine, Greedy());
  session.Interrupt();
  EXPECT_NE(session.Ask("What is this?", {Gradient()}).finish_reason, FinishReason::kCancelled);
}

}  // namespace
}  // namespace xcomposer
