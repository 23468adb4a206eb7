#include "xcomposer/session.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "api/demo_model.h"
#include "input/image_decoder.h"
#include "input/piece_encoder.h"

namespace xcomposer {
namespace {

using testing_support::ExpectError;
using testing_support::Gradient;
using testing_support::LoadDemo;

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
  const std::string file = ::testing::TempDir() + "xcomposer_session.jpg";
  std::filesystem::copy_file(XCOMPOSER_SOURCE_DIR "/demo/pictures/fashion-00000.png", file,
                             std::filesystem::copy_options::overwrite_existing);
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
  std::filesystem::copy_file(XCOMPOSER_SOURCE_DIR "/demo/pictures/fashion-00000.png", file);
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

TEST_F(SessionOverTheDemo, AnInterruptBetweenTurnsDoesNothing) {
  Engine engine = LoadDemo();
  Session session(engine, Greedy());
  session.Interrupt();
  EXPECT_NE(session.Ask("What is this?", {Gradient()}).finish_reason, FinishReason::kCancelled);
}

}  // namespace
}  // namespace xcomposer
