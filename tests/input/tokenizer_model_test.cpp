#include "input/tokenizer_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "input/tiny_tokenizer.h"
#include "xcomposer/error.h"

namespace xcomposer {
namespace {

/// The message of the kTokenizer error, or what came instead.
std::string Refusal(const std::string& bytes) {
  try {
    ParseTokenizerModel(bytes);
    return "accepted";
  } catch (const Error& error) {
    return error.kind() == ErrorKind::kTokenizer ? error.what() : "another kind";
  }
}

TEST(TokenizerModel, ReadsPiecesSpecialsAndSettings) {
  const TokenizerModel model = ParseTokenizerModel(TinyTokenizer().Bytes());
  EXPECT_EQ(model.unknown_id, 0);
  EXPECT_EQ(model.bos_id, 1);
  EXPECT_EQ(model.eos_id, 2);
  EXPECT_EQ(model.pieces[3 + 0x41].text, "<0x41>");
  EXPECT_EQ(model.pieces[3 + 0x41].type, PieceType::kByte);
  EXPECT_EQ(model.pieces[259].text, "ab");
  EXPECT_EQ(model.pieces.back().type, PieceType::kUserDefined);
  EXPECT_EQ(model.unknown_text, " ⁇ ");
  EXPECT_FALSE(model.add_dummy_prefix);
  EXPECT_FALSE(model.remove_extra_whitespaces);
}

TEST(TokenizerModel, FollowsTheNamesOfTheTrainer) {
  TinyTokenizer tiny;
  tiny.Add("<go>", PieceType::kControl);
  tiny.trainer += BytesField(46, "<go>") + BytesField(44, "?!");
  const TokenizerModel model = ParseTokenizerModel(tiny.Bytes());
  EXPECT_EQ(model.pieces[static_cast<size_t>(model.bos_id)].text, "<go>");
  EXPECT_EQ(model.unknown_text, "?!");
}

TEST(TokenizerModel, EveryTruncationIsRefused) {
  const std::string bytes = TinyTokenizer().Bytes();
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_NE(Refusal(bytes.substr(0, size)), "accepted") << size;
  }
}

TEST(TokenizerModel, RefusesMalformedFields) {
  const std::string bytes = TinyTokenizer().Bytes();
  EXPECT_THAT(Refusal("not a model"), testing::HasSubstr("tokenizer.model"));
  EXPECT_THAT(Refusal(bytes + '\x7B'), testing::HasSubstr("wire type 3"));
  EXPECT_THAT(Refusal(bytes + std::string("\x02\x00", 2)), testing::HasSubstr("field number 0"));
  EXPECT_THAT(Refusal(bytes + "\x4A\x01"), testing::HasSubstr("truncated"));
  EXPECT_THAT(Refusal(bytes + std::string(11, '\xFF')), testing::HasSubstr("64 bits"));
  EXPECT_THAT(Refusal(bytes + NumberField(1, 5)),
              testing::HasSubstr("'pieces' has the wrong wire"));
  EXPECT_THAT(Refusal(bytes + BytesField(3, NumberField(2, 1))),
              testing::HasSubstr("'precompiled_charsmap' has the wrong wire"));
}

TEST(TokenizerModel, RefusesBadPieces) {
  const auto with = [](std::string_view field) {
    return TinyTokenizer().Bytes() + std::string(field);
  };
  const auto piece = [&](std::string_view text, PieceType type = PieceType::kNormal) {
    return with(PieceField(text, -1, type));
  };
  EXPECT_THAT(Refusal(piece("")), testing::HasSubstr("is empty"));
  EXPECT_THAT(Refusal(piece("ab")), testing::HasSubstr("repeats"));
  EXPECT_THAT(Refusal(piece("\xFF")), testing::HasSubstr("UTF-8"));
  EXPECT_THAT(Refusal(piece(std::string(4097, 'x'))), testing::HasSubstr("4097 bytes"));
  EXPECT_THAT(Refusal(piece(std::string("x\0y", 3), PieceType::kUserDefined)),
              testing::HasSubstr("zero byte"));
  EXPECT_EQ(Refusal(piece(std::string("x\0y", 3))), "accepted");
  EXPECT_THAT(Refusal(piece("zz", static_cast<PieceType>(7))),
              testing::HasSubstr("unknown type 7"));
  EXPECT_THAT(Refusal(piece("zz", PieceType::kUnknown)), testing::HasSubstr("2 unknown pieces"));
  EXPECT_THAT(Refusal(piece("<0xG0>", PieceType::kByte)), testing::HasSubstr("not named"));
  EXPECT_THAT(
      Refusal(with(PieceField("zz", std::numeric_limits<float>::quiet_NaN(), PieceType::kNormal))),
      testing::HasSubstr("finite"));
}

TEST(TokenizerModel, RefusesIncompleteModels) {
  TinyTokenizer tiny;
  tiny.trainer = NumberField(3, 2);
  EXPECT_THAT(Refusal(tiny.Bytes()), testing::HasSubstr("256 byte pieces; none is expected"));
  tiny.trainer = NumberField(3, 2) + NumberField(35, 1) + BytesField(46, "<start>");
  EXPECT_THAT(Refusal(tiny.Bytes()), testing::HasSubstr("no begin piece '<start>'"));
  tiny.trainer = NumberField(3, 2) + NumberField(35, 1) + BytesField(47, "ab");
  EXPECT_THAT(Refusal(tiny.Bytes()), testing::HasSubstr("no end piece 'ab'"));
}

TEST(TokenizerModel, RefusesOtherModelTypesAndNormalisers) {
  TinyTokenizer unigram;
  unigram.trainer = NumberField(3, 1) + NumberField(35, 1);
  EXPECT_THAT(Refusal(unigram.Bytes()), testing::HasSubstr("BPE (2) is expected"));
  TinyTokenizer mapped;
  mapped.normalizer += BytesField(2, "abcd");
  EXPECT_THAT(Refusal(mapped.Bytes()), testing::HasSubstr("character map of 4 bytes"));
  const std::string denormalizer = BytesField(5, BytesField(2, "abcd"));
  EXPECT_THAT(Refusal(TinyTokenizer().Bytes() + denormalizer), testing::HasSubstr("denormaliser"));
}

TEST(TokenizerModel, NamesOfBytePieces) {
  EXPECT_EQ(ByteOfPiece("<0x00>"), 0);
  EXPECT_EQ(ByteOfPiece("<0xFF>"), 255);
  EXPECT_EQ(ByteOfPiece("<0xff>"), std::nullopt);
  EXPECT_EQ(ByteOfPiece("<0x0>"), std::nullopt);
  EXPECT_EQ(ByteOfPiece("<0x000>"), std::nullopt);
}

}  // namespace
}  // namespace xcomposer
