#include "input/chat_template.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "input/sha256.h"

namespace xcomposer {
namespace {

TEST(ChatTemplate, TheDefaultSystemTextIsTheOneOfTheReference) {
  EXPECT_EQ(Sha256(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  const std::string_view text = DefaultMetaInstruction();
  EXPECT_EQ(text.size(), 564u);
  EXPECT_EQ(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }),
            506);
  EXPECT_EQ(Sha256(text), "3327ad83486c9dbcec852b83c0b4110aa5704909edbe00af79ade5a0db432599");
}

TEST(ChatTemplate, WithoutSystemTextThereIsNoSystemBlock) {
  EXPECT_EQ(
      ApplyChatTemplate("", {}, "What is this?", SpecialsMode::kReference).text,
      "[UNUSED_TOKEN_146]user\nWhat is this?[UNUSED_TOKEN_145]\n[UNUSED_TOKEN_146]assistant\n");
}

TEST(ChatTemplate, TurnsStandInTheirOrder) {
  const ChatTurn turns[] = {{"q1", "a1"}, {"q2", "a2"}};
  const PromptText prompt = ApplyChatTemplate("meta", turns, "q3", SpecialsMode::kLiteral);
  EXPECT_EQ(prompt.text,
            "[UNUSED_TOKEN_146]system\nmeta[UNUSED_TOKEN_145]\n"
            "[UNUSED_TOKEN_146]user\nq1[UNUSED_TOKEN_145]\n"
            "[UNUSED_TOKEN_146]assistant\na1[UNUSED_TOKEN_145]\n"
            "[UNUSED_TOKEN_146]user\nq2[UNUSED_TOKEN_145]\n"
            "[UNUSED_TOKEN_146]assistant\na2[UNUSED_TOKEN_145]\n"
            "[UNUSED_TOKEN_146]user\nq3[UNUSED_TOKEN_145]\n"
            "[UNUSED_TOKEN_146]assistant\n");
  std::string literal;
  for (const ByteSpan& span : prompt.literal) {
    literal += prompt.text.substr(span.begin, span.end - span.begin) + "|";
  }
  EXPECT_EQ(literal, "meta|q1|a1|q2|a2|q3|");
}

TEST(ChatTemplate, InReferenceModeNothingIsLiteral) {
  const ChatTurn turns[] = {{"q1", "a1"}};
  EXPECT_TRUE(ApplyChatTemplate("meta", turns, "q", SpecialsMode::kReference).literal.empty());
}

TEST(PromptText, ASliceKeepsThePartsOfItsLiteralSpans) {
  PromptText text;
  text.Append("ab");
  text.AppendLiteral("cdef");
  text.Append("gh");
  text.AppendLiteral("ij");
  const PromptText slice = text.Slice(3, 9);
  EXPECT_EQ(slice.text, "defghi");
  ASSERT_EQ(slice.literal.size(), 2u);
  EXPECT_EQ(slice.literal[0].begin, 0);
  EXPECT_EQ(slice.literal[0].end, 3);
  EXPECT_EQ(slice.literal[1].begin, 5);
  EXPECT_EQ(slice.literal[1].end, 6);
}

}  // namespace
}  // namespace xcomposer
