#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "input/detokenizer.h"
#include "input/tiny_tokenizer.h"
#include "input/tokenizer.h"
#include "xcomposer/error.h"

/// A build without sentencepiece: ids in, text out.
namespace xcomposer {
namespace {

TEST(NoSentencepiece, EncodingSaysHowToGetIt) {
  const CheckpointTokenizer tokenizer(TinyTokenizer().Bytes(), {});
  try {
    tokenizer.Encode("a");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kTokenizer);
    EXPECT_THAT(error.what(), testing::HasSubstr("XCOMPOSER_WITH_SENTENCEPIECE=ON"));
  }
}

TEST(NoSentencepiece, DecodingWorks) {
  const CheckpointTokenizer tokenizer(TinyTokenizer().Bytes(), {});
  const int32_t ids[] = {*tokenizer.PieceToId("▁a"), 3 + 0xC3, 3 + 0xA9, *tokenizer.turn_end_id()};
  EXPECT_EQ(tokenizer.Decode(ids), " aé[UNUSED_TOKEN_145]");
  EXPECT_EQ(AnswerText(tokenizer, ids), " aé");
}

}  // namespace
}  // namespace xcomposer
