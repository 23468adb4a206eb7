#include "config/generation_defaults.h"

#include "checkpoint/scratch_directory.h"
#include "gmock/gmock.h"
#include "xcomposer/error.h"

namespace xcomposer {
namespace {

using testing::HasSubstr;

/// Why a generation_config.json is refused; empty where it is taken.
std::string RefusalOf(const std::string& text) {
  GenerationDefaults defaults = ChatDefaults(Kind::kVl7b);
  try {
    MergeGenerationConfig(text, defaults);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kConfig) << text;
    return error.what();
  }
  return "";
}

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
    EXPECT_FALSE(defaults.early_stopping);
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
  EXPECT_THAT(defaults.notes, testing::Contains(HasSubstr("my_key")));
}

TEST(GenerationDefaults, AreReadFromTheFolderOfTheModel) {
  const testing_support::ScratchDirectory folder;
  const GenerationDefaults without = LoadGenerationDefaults(folder.path(), Kind::kVl7b);
  EXPECT_EQ(without.num_beams, 1);
  EXPECT_EQ(without.length_penalty, 1.0);
  EXPECT_FALSE(without.early_stopping);

  const std::filesystem::path file =
      folder.Write("generation_config.json",
                   R"({"num_beams": 3, "length_penalty": 2.0, "early_stopping": true})");
  const GenerationDefaults defaults = LoadGenerationDefaults(folder.path(), Kind::kVl7b);
  EXPECT_EQ(defaults.num_beams, 3);
  EXPECT_EQ(defaults.length_penalty, 2.0);
  EXPECT_TRUE(defaults.early_stopping);
  EXPECT_EQ(defaults.top_p, 0.8);

  folder.Write("generation_config.json", R"({"num_beams": 0})");
  try {
    LoadGenerationDefaults(folder.path(), Kind::kVl7b);
    ADD_FAILURE() << "no beams were accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kConfig);
    EXPECT_EQ(error.where().at("file"), file.string());
  }
}

TEST(GenerationDefaults, RefusesWhatItWouldHaveToIgnore) {
  struct Setting {
    std::string key, neutral, other;
  };
  const Setting settings[] = {{"min_length", "0", "5"},
                              {"min_new_tokens", "0", "5"},
                              {"no_repeat_ngram_size", "0", "3"},
                              {"typical_p", "1.0", "0.5"},
                              {"epsilon_cutoff", "0.0", "0.5"},
                              {"eta_cutoff", "0.0", "0.5"},
                              {"num_beam_groups", "1", "2"},
                              {"diversity_penalty", "0.0", "0.5"},
                              {"encoder_repetition_penalty", "1.0", "1.5"},
                              {"bad_words_ids", "[]", "[[5]]"},
                              {"suppress_tokens", "[]", "[5]"},
                              {"begin_suppress_tokens", "[]", "[5]"},
                              {"force_words_ids", "[]", "[[5]]"},
                              {"forced_bos_token_id", "null", "5"},
                              {"forced_eos_token_id", "null", "5"},
                              {"penalty_alpha", "0.0", "0.5"},
                              {"guidance_scale", "1.0", "1.5"},
                              {"min_p", "0.0", "0.5"},
                              {"num_return_sequences", "1", "2"},
                              {"renormalize_logits", "false", "true"},
                              {"remove_invalid_values", "false", "true"},
                              {"exponential_decay_length_penalty", "null", "[5,1.5]"},
                              {"sequence_bias", "[]", "[[[5],1.5]]"}};
  for (const Setting& setting : settings) {
    const auto with = [&](const std::string& value) {
      return "{\"" + setting.key + "\": " + value + "}";
    };
    EXPECT_EQ(RefusalOf(with(setting.neutral)), "") << setting.key;
    EXPECT_THAT(RefusalOf(with(setting.other)),
                HasSubstr("sets " + setting.key + " to " + setting.other));
  }
}

TEST(GenerationDefaults, RefusesValuesThatNothingCanBeDoneWith) {
  EXPECT_THAT(RefusalOf(R"({"num_beams": "3"})"),
              HasSubstr(R"(num_beams is "3", expected an integer)"));
  EXPECT_THAT(RefusalOf(R"({"num_beams": 257})"),
              HasSubstr("num_beams is 257, expected a number from 1 to 256"));
  EXPECT_THAT(RefusalOf(R"({"top_k": -1})"), HasSubstr("top_k is -1, expected a number from 0"));
  EXPECT_THAT(RefusalOf(R"({"length_penalty": 101})"),
              HasSubstr("length_penalty is 101, expected a number from -100 to 100"));
  EXPECT_THAT(RefusalOf(R"({"early_stopping": "never"})"),
              HasSubstr(R"(early_stopping is "never", expected true or false)"));
  EXPECT_THAT(RefusalOf("nonsense"), HasSubstr("generation_config.json is not JSON"));
}

}  // namespace
}  // namespace xcomposer
