#include "config/generation_defaults.h"

#include "gmock/gmock.h"
#include "xcomposer/error.h"

namespace xcomposer {
namespace {

TEST(GenerationDefaults, AreThoseOfThePublishedChat) {
  for (const Kind kind : kAllKinds) {
    const GenerationDefaults defaults = ChatDefaults(kind);
    EXPECT_EQ(defaults.max_new_tokens, 1024);
    EXPECT_TRUE(defaults.do_sample);
    EXPECT_EQ(defaults.temperature, 1.0);
    EXPECT_EQ(defaults.top_p, 0.8);
    EXPECT_EQ(defaults.top_k, 50);
    EXPECT_EQ(defaults.repetition_penalty, 1.005);
    EXPECT_EQ(defaults.num_beams, 1);
    EXPECT_EQ(defaults.length_penalty, 1.0);
  }
}

TEST(GenerationDefaults, FileOnlyFillsWhatChatLeavesAlone) {
  GenerationDefaults defaults = ChatDefaults(Kind::kVl7b);
  MergeGenerationConfig(
      R"({"num_beams": 3, "top_k": 7, "temperature": 0.1, "max_length": 1600, "do_sample": false,
          "eos_token_id": 5, "use_cache": false, "min_length": 0, "my_key": 1})",
      defaults);
  EXPECT_EQ(defaults.num_beams, 3);
  EXPECT_EQ(defaults.top_k, 7);
  EXPECT_EQ(defaults.temperature, 1.0);
  EXPECT_TRUE(defaults.do_sample);
  EXPECT_EQ(defaults.max_new_tokens, 1024);
  EXPECT_THAT(defaults.notes, testing::Contains(testing::HasSubstr("my_key")));
}

TEST(GenerationDefaults, RefusesWhatItWouldHaveToIgnore) {
  GenerationDefaults defaults = ChatDefaults(Kind::kVl7b);
  EXPECT_THROW(MergeGenerationConfig(R"({"no_repeat_ngram_size": 3})", defaults), Error);
  EXPECT_THROW(MergeGenerationConfig(R"({"num_beams": "3"})", defaults), Error);
  EXPECT_THROW(MergeGenerationConfig(R"({"top_k": -1})", defaults), Error);
  EXPECT_THROW(MergeGenerationConfig("nonsense", defaults), Error);
}

}  // namespace
}  // namespace xcomposer
