#include "input/detokenizer.h"

#include <gtest/gtest.h>

#include <random>

#include "base/utf8.h"
#include "input/tiny_tokenizer.h"
#include "xcomposer/error.h"

namespace xcomposer {
namespace {

class Detokenizer : public testing::Test {
 protected:
  int32_t Id(std::string_view piece) const { return tokenizer_.PieceToId(piece).value(); }

  std::vector<int32_t> RandomIds() {
    const char* const frequent[] = {
        "▁", "'", "▁'", "▁.", ".", "▁s", "s", "n", "t", "m", "[UNUSED_TOKEN_145]"};
    std::vector<int32_t> ids;
    for (auto n = random_() % 24; n > 0; --n) {
      const auto pick = random_() % 4;
      if (pick == 0) ids.push_back(static_cast<int32_t>(random_() % tokenizer_.size()));
      if (pick == 1) ids.push_back(static_cast<int32_t>(3 + 0x80 + random_() % 128));
      if (pick >= 2) ids.push_back(Id(frequent[random_() % (std::size(frequent) - random_() % 2)]));
    }
    return ids;
  }

  const CheckpointTokenizer tokenizer_{TinyTokenizer().Bytes(), {}};
  std::mt19937 random_{17};
};

TEST_F(Detokenizer, TheStreamIsTheOneShotTextInWholeCharacters) {
  int cut = 0;
  for (int round = 0; round < 20000; ++round) {
    const std::vector<int32_t> ids = RandomIds();
    IncrementalDetokenizer stream(tokenizer_);
    std::string joined;
    for (const int32_t id : ids) {
      const IncrementalDetokenizer::Part part = stream.Push(id);
      ASSERT_TRUE(IsValidUtf8(part.text));
      ASSERT_FALSE(part.stop);
      joined += part.text;
    }
    joined += stream.Finish().text;
    ASSERT_EQ(joined, AnswerText(tokenizer_, ids));
    cut += joined != tokenizer_.DecodeAsPython(ids);
  }
  EXPECT_GT(cut, 1000);  // the end mark occurs
}

TEST_F(Detokenizer, CharactersOfSeveralIdsComeWhole) {
  IncrementalDetokenizer stream(tokenizer_);
  EXPECT_EQ(stream.Push(3 + 0xF0).text, "");
  EXPECT_EQ(stream.Push(3 + 0x9F).text, "");
  EXPECT_EQ(stream.Push(3 + 0x99).text, "");
  EXPECT_EQ(stream.Push(3 + 0x82).text, "🙂");
  EXPECT_EQ(stream.Push(3 + 0xF0).text, "");
  EXPECT_EQ(stream.Push(3 + 0x9F).text, "");
  EXPECT_EQ(stream.Push(Id("a")).text, "\uFFFD\uFFFDa");
  EXPECT_EQ(stream.Push(3 + 0xE4).text, "");
  EXPECT_EQ(stream.Push(3 + 0xC3).text, "\uFFFD");
  EXPECT_EQ(stream.Push(3 + 0xA9).text, "é");
  EXPECT_EQ(stream.Push(3 + 0xE4).text, "");
  EXPECT_EQ(stream.Finish().text, "\uFFFD");
}

TEST_F(Detokenizer, SpecialIdsAreLeftOutEvenInsideACharacter) {
  const int32_t ids[] = {1, 3 + 0xC3, 2, 3 + 0xA9, 0};
  EXPECT_EQ(AnswerText(tokenizer_, ids), "é");
  EXPECT_EQ(tokenizer_.Decode(ids), "\uFFFD\uFFFD ⁇ ");
}

TEST_F(Detokenizer, CleanUpWorksAcrossIds) {
  IncrementalDetokenizer stream(tokenizer_);
  EXPECT_EQ(stream.Push(Id("a")).text, "a");
  EXPECT_EQ(stream.Push(Id("▁")).text, "");
  EXPECT_EQ(stream.Push(Id(".")).text, ".");
  EXPECT_EQ(stream.Push(Id("▁'")).text, "");
  EXPECT_EQ(stream.Push(Id("▁a")).text, "'a");
}

TEST_F(Detokenizer, NothingFollowsTheEndOfTheTurn) {
  IncrementalDetokenizer stream(tokenizer_);
  EXPECT_EQ(stream.Push(Id("a")).text, "a");
  EXPECT_EQ(stream.Push(Id("[")).text, "");
  EXPECT_EQ(stream.Push(Id("[UNUSED_TOKEN_145]")).text, "[");
  EXPECT_EQ(stream.Push(Id("b")).text, "");
  EXPECT_EQ(stream.Finish().text, "");
}

TEST_F(Detokenizer, StopStringsEndTheText) {
  IncrementalDetokenizer stream(tokenizer_, {"bc.", "zzz"});
  EXPECT_EQ(stream.Push(Id("abc")).text, "a");
  EXPECT_EQ(stream.Push(Id("▁")).text, "");
  const IncrementalDetokenizer::Part last = stream.Push(Id("."));
  EXPECT_EQ(last.text, "");
  EXPECT_TRUE(last.stop);
  EXPECT_TRUE(stream.Push(2).stop);
  EXPECT_EQ(stream.Finish().text, "");
}

TEST_F(Detokenizer, AStopStringMayBecomeCompleteAtTheEnd) {
  IncrementalDetokenizer stream(tokenizer_, {"b\uFFFD"});
  EXPECT_EQ(stream.Push(Id("ab")).text, "a");
  EXPECT_EQ(stream.Push(3 + 0xE4).text, "");
  const IncrementalDetokenizer::Part last = stream.Finish();
  EXPECT_EQ(last.text, "");
  EXPECT_TRUE(last.stop);
}

TEST_F(Detokenizer, IdsOutsideTheVocabularyAreErrors) {
  IncrementalDetokenizer stream(tokenizer_);
  EXPECT_THROW(stream.Push(static_cast<int32_t>(tokenizer_.size())), Error);
  EXPECT_THROW(stream.Push(-1), Error);
}

}  // namespace
}  // namespace xcomposer
