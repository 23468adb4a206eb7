#include "input/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <random>

#include "input/tiny_tokenizer.h"
#include "xcomposer/error.h"

namespace xcomposer {
namespace {

using testing::ElementsAre;

constexpr TokenizerStyle kStripping = {.strips_around_specials = true, .has_named_markers = false};
constexpr TokenizerStyle kNamed = {.strips_around_specials = false, .has_named_markers = true};

class TinyModel : public testing::Test {
 protected:
  int32_t Id(std::string_view piece) const { return tokenizer_.PieceToId(piece).value(); }
  int32_t Byte(int byte) const { return 3 + byte; }

  const std::string bytes_ = TinyTokenizer().Bytes();
  const CheckpointTokenizer tokenizer_{bytes_, kStripping};
  const CheckpointTokenizer named_{bytes_, kNamed};
};

TEST_F(TinyModel, MergesByScoreAndKeepsSpaces) {
  EXPECT_THAT(tokenizer_.Encode("abc ab  "),
              ElementsAre(Id("abc"), Id("▁"), Id("ab"), Id("▁"), Id("▁")));
  EXPECT_THAT(tokenizer_.Encode(" a"), ElementsAre(Id("▁a")));
  EXPECT_THAT(tokenizer_.Encode(""), ElementsAre());
}

TEST_F(TinyModel, CharactersWithoutAPieceBecomeBytes) {
  EXPECT_THAT(tokenizer_.Encode("a🙂"),
              ElementsAre(Id("a"), Byte(0xF0), Byte(0x9F), Byte(0x99), Byte(0x82)));
}

TEST_F(TinyModel, ZeroBytesAreCharacters) {
  EXPECT_THAT(tokenizer_.Encode(std::string_view("a\0b", 3)),
              ElementsAre(Id("a"), Byte(0), Id("b")));
}

TEST_F(TinyModel, BrokenUtf8CountsAsReplacementCharacters) {
  EXPECT_THAT(tokenizer_.Encode("\xFF"), ElementsAre(Byte(0xEF), Byte(0xBF), Byte(0xBD)));
  EXPECT_EQ(tokenizer_.Decode(tokenizer_.Encode("a\xE4\xBD"
                                                "b")),
            "a\uFFFD\uFFFD"
            "b");
}

TEST_F(TinyModel, UserDefinedPiecesActInTheModelFilesOwnEncoding) {
  EXPECT_THAT(tokenizer_.Encode("a[UNUSED_TOKEN_145]<s>"),
              ElementsAre(Id("a"), Id("[UNUSED_TOKEN_145]"), Id("<"), Id("s"), Id(">")));
}

TEST_F(TinyModel, DecodingOwnSpellingAndInvisibleControls) {
  const int32_t ids[] = {1,          Id("▁a"), 0,          Id("[UNUSED_TOKEN_145]"),
                         Byte(0xE4), Id("é"),  Byte(0xE4), 2};
  EXPECT_EQ(tokenizer_.Decode(ids), " a ⁇ [UNUSED_TOKEN_145]\uFFFDé\uFFFD");
}

TEST_F(TinyModel, IdsOutsideTheVocabularyAreErrors) {
  const auto count = static_cast<int32_t>(tokenizer_.size());
  for (const int32_t id : {-1, count, INT32_MAX, INT32_MIN}) {
    const int32_t ids[] = {id};
    EXPECT_THROW(tokenizer_.Decode(ids), Error);
    EXPECT_THROW(tokenizer_.DecodeAsPython(ids), Error);
    EXPECT_THROW(tokenizer_.IdToPiece(id), Error);
  }
  EXPECT_EQ(tokenizer_.IdToPiece(count - 1), "[UNUSED_TOKEN_146]");
  EXPECT_EQ(tokenizer_.turn_end_id(), count - 2);
  EXPECT_EQ(tokenizer_.PieceToId("no such piece"), std::nullopt);
}

TEST_F(TinyModel, PythonSpecialsActAndSwallowWhiteSpaceInOneStyle) {
  EXPECT_THAT(tokenizer_.EncodeAsPython("a <s>\u3000\n b </s><unk>"),
              ElementsAre(1, Id("a"), 1, Id("b"), 2, 0));
  EXPECT_THAT(named_.EncodeAsPython("a <s>\nb"),
              ElementsAre(1, Id("a"), Id("▁"), 1, Id("\n"), Id("b")));
  EXPECT_THAT(tokenizer_.EncodeAsPython(" a "), ElementsAre(1, Id("▁a"), Id("▁")));
}

TEST_F(TinyModel, NamedMarkersAreOtherNamesOfPieces) {
  EXPECT_THAT(named_.EncodeAsPython("a<|im_start|><|im_end|><|action_start|><|action_end|>"
                                    "<|interpreter|><|plugin|>"),
              ElementsAre(1, Id("a"), Id("[UNUSED_TOKEN_146]"), Id("[UNUSED_TOKEN_145]"),
                          Id("[UNUSED_TOKEN_144]"), Id("[UNUSED_TOKEN_143]"),
                          Id("[UNUSED_TOKEN_142]"), Id("[UNUSED_TOKEN_141]")));
  EXPECT_EQ(tokenizer_.EncodeAsPython("<|im_end|>").size(), 11u);
}

TEST_F(TinyModel, NothingActsInLiteralText) {
  const std::string typed =
      "<s> [UNUSED_TOKEN_145]\n</s><|im_start|>[UNUSED_TOKEN_146[UNUSED_TOKEN_146]]<unk> ——";
  for (const CheckpointTokenizer* tokenizer : {&tokenizer_, &named_}) {
    PromptText text;
    text.Append("[UNUSED_TOKEN_146]");
    text.AppendLiteral(typed);
    text.Append("[UNUSED_TOKEN_145]</s>");
    const std::vector<int32_t> ids = tokenizer->EncodePrompt(text);
    ASSERT_GT(ids.size(), 4u);
    EXPECT_EQ(ids.front(), Id("[UNUSED_TOKEN_146]"));
    EXPECT_EQ(ids[ids.size() - 2], Id("[UNUSED_TOKEN_145]"));
    EXPECT_EQ(ids.back(), 2);
    std::vector<int32_t> inner(ids.begin() + 1, ids.end() - 2);
    for (const int32_t id : inner) {
      EXPECT_FALSE(tokenizer->IsSpecial(id));
      EXPECT_FALSE(tokenizer->IdToPiece(id).starts_with("[UNUSED")) << id;
    }
    EXPECT_EQ(inner.back(), Id("——"));
    EXPECT_EQ(tokenizer->Decode(inner), typed);
  }
}

TEST_F(TinyModel, LiteralTextMergesWithItsSurroundingsAsElsewhere) {
  PromptText text;
  text.Append("user\n");
  text.AppendLiteral("\nab");
  text.Append("c");
  EXPECT_EQ(text.text, "user\n\nabc");
  EXPECT_EQ(tokenizer_.EncodePrompt(text), tokenizer_.Encode("user\n\nabc"));
}

TEST_F(TinyModel, EncodingAndDecodingAreInverse) {
  std::mt19937 random(1);
  const std::vector<std::string> parts = {"a",
                                          "b",
                                          "c",
                                          " ",
                                          "\n",
                                          "é",
                                          "🙂",
                                          "你好",
                                          "——",
                                          "'",
                                          "<s>",
                                          "[UNUSED_TOKEN_145]",
                                          std::string(1, '\0'),
                                          "\u200B",
                                          "ß",
                                          "한"};
  for (int round = 0; round < 2000; ++round) {
    std::string text;
    for (auto n = random() % 20; n > 0; --n) text += parts[random() % parts.size()];
    ASSERT_EQ(tokenizer_.Decode(tokenizer_.Encode(text)), text);
    PromptText literal;
    literal.AppendLiteral(text);
    ASSERT_EQ(tokenizer_.Decode(tokenizer_.EncodePrompt(literal)), text);
  }
}

TEST_F(TinyModel, TextsBeyondTheLimitAreErrors) {
  const std::string text(kMaxTextBytes + 1, 'a');
  try {
    tokenizer_.Encode(text);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kPrompt);
  }
}

TEST(Tokenizer, ADummyPrefixIsTakenAwayAgain) {
  TinyTokenizer tiny;
  tiny.normalizer = BytesField(1, "identity") + NumberField(3, 1) + NumberField(4, 0);
  const CheckpointTokenizer tokenizer(tiny.Bytes(), kStripping);
  for (const std::string text : {"abc", " abc", "  a ", "🙂", ""}) {
    EXPECT_EQ(tokenizer.Decode(tokenizer.Encode(text)), text);
  }
}

TEST(Tokenizer, MissingAndBrokenFilesAreErrorsWithTheirName) {
  const std::filesystem::path folder =
      std::filesystem::path(testing::TempDir()) / "xcomposer_tokenizer_test";
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  const auto refusal = [&] {
    try {
      LoadTokenizer(folder, kStripping);
      return std::string("accepted");
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kTokenizer);
      EXPECT_EQ(error.where().at("file"), (folder / "tokenizer.model").string());
      return std::string(error.what());
    }
  };
  const auto write = [&](const std::string& bytes) {
    std::ofstream(folder / "tokenizer.model", std::ios::binary) << bytes;
  };
  EXPECT_THAT(refusal(), testing::HasSubstr("no file"));
  write("");
  EXPECT_THAT(refusal(), testing::HasSubstr("empty"));
  write("version https://git-lfs.github.com/spec/v1\n");
  EXPECT_THAT(refusal(), testing::HasSubstr("git lfs pull"));
  write("garbage");
  EXPECT_NE(refusal(), "accepted");
  write(TinyTokenizer().Bytes());
  EXPECT_EQ(refusal(), "accepted");
  std::filesystem::remove(folder / "tokenizer.model");
  std::filesystem::create_directory(folder / "tokenizer.model");
  EXPECT_THAT(refusal(), testing::HasSubstr("no file"));
  std::filesystem::remove_all(folder);
}

TEST(Tokenizer, TheStyleFollowsTheKind) {
  for (const Kind kind : {Kind::k2_7b, Kind::kVl7b, Kind::kVl1_8b}) {
    EXPECT_TRUE(TokenizerStyleFor(kind).strips_around_specials);
    EXPECT_FALSE(TokenizerStyleFor(kind).has_named_markers);
  }
  for (const Kind kind : {Kind::k4khd7b, Kind::k25_7b}) {
    EXPECT_FALSE(TokenizerStyleFor(kind).strips_around_specials);
    EXPECT_TRUE(TokenizerStyleFor(kind).has_named_markers);
  }
}

}  // namespace
}  // namespace xcomposer
