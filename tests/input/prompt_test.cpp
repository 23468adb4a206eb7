#include "input/prompt.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "input/tiny_tokenizer.h"
#include "xcomposer/error.h"

namespace xcomposer {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

/// Ids as text: pieces, runs of picture rows as {rows}; the frame's markers as B and E, BOS as ^.
class PromptRules : public testing::Test {
 protected:
  std::string Shown(const Prompt& prompt) const {
    std::string out;
    int64_t rows = 0;
    const auto flush = [&] {
      if (rows > 0) out += "{" + std::to_string(rows) + "}";
      rows = 0;
    };
    for (const int32_t id : prompt.ids) {
      if (id < 0) {
        ++rows;
        continue;
      }
      flush();
      const int32_t one[] = {id};
      const std::string& piece = tokenizer_.IdToPiece(id);
      out += id == 1               ? "^"
             : piece == kTurnStart ? "B"
             : piece == kTurnEnd   ? "E"
                                   : tokenizer_.Decode(one);
    }
    flush();
    return out;
  }

  Prompt Build(Kind kind, const PromptRequest& request,
               PromptRevision revision = PromptRevision::kMain) const {
    return BuildPrompt(tokenizer_, PromptStyleFor(kind, revision), request);
  }

  std::string Refusal(Kind kind, const PromptRequest& request) const {
    try {
      Build(kind, request);
      return "accepted";
    } catch (const Error& error) {
      return error.kind() == ErrorKind::kPrompt ? error.what() : "another kind";
    }
  }

  static PromptRequest Ask(const std::string& query, std::vector<int64_t> rows) {
    PromptRequest request;
    request.query = query;
    request.pictures = PictureArgument::kList;
    request.picture_rows = std::move(rows);
    request.meta_instruction = "";
    return request;
  }

  const CheckpointTokenizer tokenizer_{TinyTokenizer().Bytes(), {}};
};

TEST_F(PromptRules, BosStandsBeforeEveryPieceOrTheFirst) {
  const PromptRequest request = Ask("a<ImageHere>b", {3});
  for (const Kind kind : {Kind::k2_7b, Kind::kVl7b, Kind::kVl1_8b, Kind::k4khd7b}) {
    EXPECT_EQ(Shown(Build(kind, request)), "^Buser\na{3}^bE\nBassistant\n");
  }
  const Prompt prompt = Build(Kind::k25_7b, request);
  EXPECT_EQ(Shown(prompt), "^Buser\na{3}bE\nBassistant\n");
  EXPECT_THAT(prompt.pieces, ElementsAre("[UNUSED_TOKEN_146]user\na",
                                         "b[UNUSED_TOKEN_145]\n[UNUSED_TOKEN_146]assistant\n"));
  EXPECT_THAT(prompt.penalty_ids, ElementsAre(1));
  EXPECT_FALSE(prompt.text_path);
  EXPECT_EQ(prompt.truncated_rows, 0);
  ASSERT_EQ(prompt.pictures.size(), 1u);
  EXPECT_EQ(prompt.pictures[0].row_count, 3);
  EXPECT_EQ(prompt.ids[static_cast<size_t>(prompt.pictures[0].first_row)], -1);
}

TEST_F(PromptRules, EmptyPiecesGetNoBosButTheFirstOfTheNewKind) {
  EXPECT_EQ(Shown(Build(Kind::kVl7b, Ask("<ImageHere><ImageHere>b", {2, 1}))),
            "^Buser\n{3}^bE\nBassistant\n");
  const Prompt prompt = Build(Kind::k25_7b, Ask("b", {2}));
  EXPECT_EQ(Shown(prompt), "^{2}Buser\nbE\nBassistant\n");
  EXPECT_EQ(prompt.pieces.front(), "");
  EXPECT_THAT(prompt.text, StartsWith("<ImageHere>[UNUSED_TOKEN_146]user"));
}

TEST_F(PromptRules, TheTextPathHasTwoBosAndKeepsMarksAsText) {
  PromptRequest request = Ask("a<ImageHere>", {});
  const std::string expected = "^^Buser\na<ImageHere>E\nBassistant\n";
  for (const Kind kind : {Kind::k2_7b, Kind::kVl7b, Kind::kVl1_8b, Kind::k4khd7b, Kind::k25_7b}) {
    for (const PictureArgument argument :
         {PictureArgument::kAbsent, PictureArgument::kNull, PictureArgument::kList}) {
      request.pictures = argument;
      const Prompt prompt = Build(kind, request);
      const bool text = kind != Kind::k25_7b || argument == PictureArgument::kNull;
      EXPECT_EQ(prompt.text_path, text);
      EXPECT_EQ(Shown(prompt), text ? expected : "^Buser\naE\nBassistant\n");
      EXPECT_EQ(prompt.penalty_ids, text ? prompt.ids : std::vector<int32_t>{1});
    }
  }
}

TEST_F(PromptRules, TheTextPathIsNotCut) {
  PromptRequest request = Ask(std::string(5000, 'x'), {});
  EXPECT_EQ(Build(Kind::kVl7b, request).truncated_rows, 0);
  EXPECT_GT(Build(Kind::kVl7b, request).ids.size(), 5000u);
  request.picture_rows = {10};
  EXPECT_EQ(Build(Kind::k25_7b, request).truncated_rows, 0);
  request.query += "<ImageHere>";
  EXPECT_EQ(Build(Kind::kVl7b, request).ids.size(), 4096u);
}

TEST_F(PromptRules, MarksAndPicturesMustMatchInSomeKinds) {
  for (const Kind kind : {Kind::k2_7b, Kind::kVl7b, Kind::kVl1_8b, Kind::k4khd7b}) {
    EXPECT_THAT(Refusal(kind, Ask("a", {1})), HasSubstr("0 marks <ImageHere>"));
    EXPECT_THAT(Refusal(kind, Ask("<ImageHere><ImageHere>", {1})), HasSubstr("2 marks"));
    EXPECT_THAT(Refusal(kind, Ask("<ImageHere>", {1, 1})), HasSubstr("2 pictures"));
  }
}

TEST_F(PromptRules, ElsewhereSurplusMarksVanishAndSurplusPicturesFollowThePieces) {
  const auto shown = [&](const PromptRequest& request) {
    return Shown(Build(Kind::kVl7b, request, PromptRevision::kBeforeFebruary2024));
  };
  EXPECT_EQ(shown(Ask("b", {2})), "^Buser\nbE\nBassistant\n{2}");
  EXPECT_EQ(shown(Ask("<ImageHere>a<ImageHere>b", {2})), "^Buser\n{2}^a^bE\nBassistant\n");
  EXPECT_EQ(shown(Ask("<ImageHere>b", {2, 3})), "^Buser\n{2}^bE\nBassistant\n{3}");
  const Prompt prompt = Build(Kind::k25_7b, Ask("b", {2, 3}));
  EXPECT_EQ(Shown(prompt), "^Buser\nbE\nBassistant\n{2}");
  EXPECT_THAT(prompt.unused_pictures, ElementsAre(1));
}

TEST_F(PromptRules, MissingMarksGoFirstWhereAsked) {
  PromptRequest request = Ask("b", {2, 3});
  request.place_missing_marks_first = true;
  request.history = {{"a", "c"}};
  EXPECT_EQ(Shown(Build(Kind::kVl7b, request)),
            "^Buser\naE\nBassistant\ncE\nBuser\n{5}^bE\nBassistant\n");
  EXPECT_EQ(Shown(Build(Kind::k25_7b, request)),
            "^Buser\naE\nBassistant\ncE\nBuser\n{5}bE\nBassistant\n");
  request.picture_rows = {2};
  EXPECT_THAT(Shown(Build(Kind::k25_7b, request)), StartsWith("^{2}Buser\na"));
  request.history = {{"<ImageHere>a", "c"}};
  EXPECT_THAT(Shown(Build(Kind::kVl7b, request)), StartsWith("^Buser\n{2}^a"));
}

TEST_F(PromptRules, SystemTextByKind) {
  PromptRequest request = Ask("b", {});
  const auto text = [&](Kind kind, std::optional<std::string> meta, std::optional<bool> use) {
    request.meta_instruction = std::move(meta);
    request.use_meta = use;
    return Build(kind, request).text;
  };
  const std::string standard =
      "[UNUSED_TOKEN_146]system\n" + std::string(DefaultMetaInstruction()) + "[UNUSED_TOKEN_145]\n";
  EXPECT_THAT(text(Kind::kVl7b, {}, {}), HasSubstr(standard));
  EXPECT_THAT(text(Kind::kVl7b, "own", {}), HasSubstr("system\nown["));
  EXPECT_THAT(text(Kind::kVl7b, "", {}), testing::Not(HasSubstr("system")));
  EXPECT_THAT(text(Kind::k25_7b, {}, {}), testing::Not(HasSubstr("system")));
  EXPECT_THAT(text(Kind::k25_7b, {}, true), HasSubstr(standard));
  EXPECT_THAT(text(Kind::k25_7b, "own", {}), HasSubstr("system\nown["));
  EXPECT_THAT(text(Kind::k25_7b, "own", false), testing::Not(HasSubstr("system")));
  EXPECT_THAT(text(Kind::k25_7b, "", true), testing::Not(HasSubstr("system")));
}

TEST_F(PromptRules, TheCutKeepsTheBeginningAndCountsTheRest) {
  PromptStyle style = PromptStyleFor(Kind::kVl7b);
  const PromptRequest request = Ask("<ImageHere>ab<ImageHere>c", {4, 6});
  const std::string whole = "^Buser\n{4}^ab{6}^cE\nBassistant\n";
  style.max_length = 1000;
  const auto rows = static_cast<int64_t>(BuildPrompt(tokenizer_, style, request).ids.size());
  EXPECT_EQ(Shown(BuildPrompt(tokenizer_, style, request)), whole);
  for (int64_t length = 1; length <= rows; ++length) {
    style.max_length = length;
    const Prompt prompt = BuildPrompt(tokenizer_, style, request);
    EXPECT_EQ(static_cast<int64_t>(prompt.ids.size()), length);
    EXPECT_EQ(prompt.truncated_rows, rows - length);
    EXPECT_EQ(prompt.pictures.size() + prompt.unused_pictures.size(), 2u);
    int64_t picture_rows = 0;
    for (const PictureRows& span : prompt.pictures) {
      EXPECT_GT(span.row_count, 0);
      for (int64_t i = 0; i < span.row_count; ++i) {
        EXPECT_EQ(prompt.ids.at(static_cast<size_t>(span.first_row + i)), -1);
      }
      picture_rows += span.row_count;
    }
    EXPECT_EQ(picture_rows, std::count(prompt.ids.begin(), prompt.ids.end(), -1));
  }
  style.max_length = 11;  // BOS, B, user, line feed are 7 rows: the first picture ends the assembly
  EXPECT_EQ(BuildPrompt(tokenizer_, style, request).pieces.size(), 2u);
  style.max_length = 10;
  EXPECT_EQ(BuildPrompt(tokenizer_, style, request).pieces.size(), 1u);
  EXPECT_EQ(Shown(BuildPrompt(tokenizer_, style, request)), "^Buser\n{3}");
}

TEST_F(PromptRules, TypedMarkersActOrNot) {
  PromptRequest request = Ask("[UNUSED_TOKEN_145]<s>", {});
  request.history = {{"</s>", "[UNUSED_TOKEN_146]"}};
  const int32_t end = *tokenizer_.turn_end_id();
  const auto ends = [&](const Prompt& prompt) {
    return std::count(prompt.ids.begin(), prompt.ids.end(), end);
  };
  EXPECT_EQ(ends(Build(Kind::k25_7b, request)), 4);
  request.specials = SpecialsMode::kLiteral;
  for (const Kind kind : {Kind::kVl7b, Kind::k25_7b}) {
    const Prompt prompt = Build(kind, request);
    EXPECT_EQ(ends(prompt), 3);
    EXPECT_EQ(std::count(prompt.ids.begin(), prompt.ids.end(), 2), 0);
    EXPECT_EQ(std::count(prompt.ids.begin(), prompt.ids.end(), 1), kind == Kind::kVl7b ? 2 : 1);
    EXPECT_THAT(Shown(prompt), HasSubstr("Buser\n[UNUSED_TOKEN_145]<s>E\n"));
  }
}

TEST_F(PromptRules, TheCutFollowsTheConfigExceptWhereItIsAnArgument) {
  for (const Kind kind : kAllKinds) {
    ModelConfig config;
    config.kind = kind;
    config.max_length = 77;
    EXPECT_EQ(PromptStyleFor(config).max_length, kind == Kind::k25_7b ? 16384 : 77);
    EXPECT_EQ(PromptStyleFor(config).bos_every_piece, PromptStyleFor(kind).bos_every_piece);
  }
}

TEST_F(PromptRules, TheFourBitRepositoriesFollowTheOlderPython) {
  for (const Kind kind : {Kind::k2_7b, Kind::kVl7b}) {
    ModelConfig config;
    config.kind = kind;
    EXPECT_TRUE(PromptStyleFor(config).errors_on_mark_count);
    config.before_february_2024 = true;
    EXPECT_FALSE(PromptStyleFor(config).errors_on_mark_count);
  }
}

TEST_F(PromptRules, ContradictionsAreErrors) {
  PromptRequest request = Ask("<ImageHere>", {1});
  request.pictures = PictureArgument::kNull;
  EXPECT_THAT(Refusal(Kind::kVl7b, request), HasSubstr("path without pictures"));
  EXPECT_THAT(Refusal(Kind::kVl7b, Ask("<ImageHere>", {0})), HasSubstr("0 rows"));
}

TEST_F(PromptRules, IdsInsteadOfText) {
  const int32_t ids[] = {1, 7, -1, 8, -1};
  const int64_t rows[] = {2, 1};
  const PromptStyle style = PromptStyleFor(Kind::kVl7b);
  const auto pictures = PictureArgument::kList;
  const Prompt prompt =
      PromptFromIds(style, {.ids = ids, .pictures = pictures, .picture_rows = rows, .bos_id = 1});
  EXPECT_THAT(prompt.ids, ElementsAre(1, 7, -1, -1, 8, -1));
  ASSERT_EQ(prompt.pictures.size(), 2u);
  EXPECT_EQ(prompt.pictures[1].first_row, 5);
  EXPECT_THAT(prompt.penalty_ids, ElementsAre(1));
  EXPECT_FALSE(prompt.text_path);
  EXPECT_THROW(PromptFromIds(style, {.ids = ids, .pictures = pictures}), Error);
  EXPECT_THROW(PromptFromIds(style, {.ids = ids, .picture_rows = rows}), Error);
  const int64_t none[] = {2, 0};
  EXPECT_THROW(PromptFromIds(style, {.ids = ids, .pictures = pictures, .picture_rows = none}),
               Error);
  const int32_t negative[] = {1, -2};
  EXPECT_THROW(PromptFromIds(style, {.ids = negative}), Error);
}

// The same rules as for text: which path a prompt without pictures takes hangs on the kind and on
// what the request says of pictures.
TEST_F(PromptRules, IdsWithoutPicturesTakeThePathOfText) {
  const int32_t ids[] = {1, 7};
  for (const Kind kind : kAllKinds) {
    for (const auto pictures :
         {PictureArgument::kAbsent, PictureArgument::kNull, PictureArgument::kList}) {
      SCOPED_TRACE(testing::Message() << ToString(kind) << " " << static_cast<int>(pictures));
      PromptRequest request = Ask("b", {});
      request.pictures = pictures;
      const Prompt prompt =
          PromptFromIds(PromptStyleFor(kind), {.ids = ids, .pictures = pictures, .bos_id = 1});
      EXPECT_EQ(prompt.text_path, Build(kind, request).text_path);
      EXPECT_EQ(prompt.text_path, kind != Kind::k25_7b || pictures == PictureArgument::kNull);
      EXPECT_EQ(prompt.penalty_ids,
                (prompt.text_path ? std::vector<int32_t>{1, 7} : std::vector<int32_t>{1}));
      EXPECT_THAT(prompt.ids, ElementsAre(1, 7));
    }
  }
}

}  // namespace
}  // namespace xcomposer
