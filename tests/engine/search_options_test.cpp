#include "engine/search_options.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <string>

#include "engine/search.h"
#include "xcomposer/error.h"

namespace xcomposer {
namespace {

constexpr int64_t kVocab = 10;

struct BadOption {
  std::string field;
  std::function<void(SearchOptions*)> set;
};

TEST(SearchOptions, EachWrongValueIsRefusedByName) {
  const double nan = std::nan("");
  const std::vector<BadOption> bad = {
      {"max_new_tokens", [](auto* o) { o->max_new_tokens = 0; }},
      {"max_new_tokens", [](auto* o) { o->max_new_tokens = -5; }},
      {"max_new_tokens", [](auto* o) { o->max_new_tokens = std::numeric_limits<int64_t>::max(); }},
      {"min_new_tokens", [](auto* o) { o->min_new_tokens = -1; }},
      {"min_length", [](auto* o) { o->min_length = -1; }},
      {"num_beams", [](auto* o) { o->num_beams = 0; }},
      {"num_beams", [](auto* o) { o->num_beams = int64_t{1} << 40; }},
      {"num_beams", [](auto* o) { o->num_beams = 2, o->do_sample = true; }},
      {"no_repeat_ngram_size", [](auto* o) { o->no_repeat_ngram_size = -1; }},
      {"repetition_penalty", [](auto* o) { o->repetition_penalty = 0; }},
      {"repetition_penalty", [=](auto* o) { o->repetition_penalty = nan; }},
      {"length_penalty", [=](auto* o) { o->length_penalty = nan; }},
      {"eos_token_id",
       [](auto* o) {
         o->eos_token_id = {2, -1};
       }},
      {"eos_token_id", [](auto* o) { o->eos_token_id.assign(10, 1), o->num_beams = 2; }},
      {"temperature", [](auto* o) { o->do_sample = true, o->temperature = 0; }},
      {"temperature", [=](auto* o) { o->do_sample = true, o->temperature = nan; }},
      {"top_k", [](auto* o) { o->do_sample = true, o->top_k = -1; }},
      {"top_p", [](auto* o) { o->do_sample = true, o->top_p = 1.5; }},
      {"top_p", [](auto* o) { o->do_sample = true, o->top_p = -0.1; }},
  };
  for (const BadOption& option : bad) {
    SearchOptions options;
    option.set(&options);
    try {
      Validate(options, kVocab);
      ADD_FAILURE() << option.field << " was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kRequest);
      EXPECT_EQ(error.where().at("field"), option.field);
      EXPECT_NE(std::string(error.what()).find(option.field), std::string::npos) << error.what();
    }
  }
}

TEST(SearchOptions, WhatDoesNotApplyIsNotLookedAt) {
  SearchOptions options;  // greedy
  options.temperature = 0;
  options.top_k = -3;
  EXPECT_NO_THROW(Validate(options, kVocab));
  EXPECT_NO_THROW(Validate(SearchOptions{}, kVocab));
}

TEST(SearchOptions, CandidatesGrowWithTheStopIds) {
  SearchOptions options;
  EXPECT_EQ(CandidatesPerBeam(options), 2);
  options.eos_token_id = {2, 3};
  EXPECT_EQ(CandidatesPerBeam(options), 3);
}

TEST(MakeSearch, PenaltyIdsMustBeThereAndInTheVocabulary) {
  EXPECT_THROW(MakeSearch({}, {}, kVocab), Error);
  EXPECT_THROW(MakeSearch({}, {10}, kVocab), Error);
  EXPECT_THROW(MakeSearch({}, {-1}, kVocab), Error);
  EXPECT_NO_THROW(MakeSearch({}, {9}, kVocab));
}

}  // namespace
}  // namespace xcomposer
