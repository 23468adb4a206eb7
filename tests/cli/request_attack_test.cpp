// Requests that nobody should send: each is refused with the kind and the name of what is wrong.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "request_json.h"

namespace xcomposer::cli {
namespace {

using ::testing::HasSubstr;

std::string MessageOf(const std::string& text) {
  try {
    const RequestFile file = ParseRequests(text, {}, "request");
    const Error* error = std::get_if<Error>(&file.items.at(0));
    if (error == nullptr) return "no error";
    EXPECT_TRUE(error->kind() == ErrorKind::kRequest || error->kind() == ErrorKind::kImage);
    return error->what();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kRequest);
    return error.what();
  }
}

struct Attack {
  std::string name;
  std::string text;
  std::string message;  // part of what must be said
};

void PrintTo(const Attack& attack, std::ostream* out) { *out << attack.name; }

std::string Setting(const std::string& setting) {
  return R"({"query": "q", "generate": {)" + setting + "}}";
}

class RequestAttack : public ::testing::TestWithParam<Attack> {};

TEST_P(RequestAttack, IsRefusedByName) {
  EXPECT_THAT(MessageOf(GetParam().text), HasSubstr(GetParam().message));
}

const Attack kAttacks[] = {
    {"empty", "", "not JSON"},
    {"cut", R"({"query": "q")", "not JSON"},
    {"trailing", R"({"query": "q"} x)", "not JSON"},
    {"comment", R"({"query": "q" /* c */})", "not JSON"},
    {"latin1", "{\"query\": \"caf\xe9\"}", "not JSON"},
    {"overlong", "{\"query\": \"\xc0\xaf\"}", "not JSON"},
    {"lone_surrogate", R"({"query": "\ud800"})", "not JSON"},
    {"nan", R"({"query": "q", "deadline_s": NaN})", "not JSON"},
    {"huge_number", R"({"query": "q", "deadline_s": 1e999})", "number"},
    {"not_an_object", "7", "expected an object"},
    {"text", "\"query\"", "expected an object"},
    {"no_query", R"({"images": null})", "'query' is missing"},
    {"query_number", R"({"query": 7})", "'query': expected a string"},
    {"query_null", R"({"query": null})", "'query': expected a string"},
    {"unknown", R"({"query": "q", "temprature": 1})", "temprature"},
    {"unknown_null", R"({"query": "q", "temprature": null})", "temprature"},
    {"unknown_in_chat", R"({"query": "q", "chat": {"hd": 1}})", "chat.hd"},
    {"unknown_in_generate", R"({"query": "q", "generate": {"beams": 1}})", "generate.beams"},
    {"twice", R"({"query": "q", "query": "r"})", "stands twice"},
    {"twice_inside", R"({"query": "q", "chat": {"hd_num": 1, "hd_num": 2}})", "stands twice"},
    {"call", R"({"query": "q", "call": "train"})", "'call'"},
    {"history_text", R"({"query": "q", "history": "h"})", "'history': expected a list"},
    {"history_single", R"({"query": "q", "history": [["a"]]})", "history[0]"},
    {"history_number", R"({"query": "q", "history": [["a", "b"], ["a", 1]]})", "history[1][1]"},
    {"images_text", R"({"query": "q", "images": "a.png"})", "'images': expected a list"},
    {"image_number", R"({"query": "q", "images": [1]})", "images[0]"},
    {"image_empty", R"({"query": "q", "images": [""]})", "name is empty"},
    {"image_nul", R"({"query": "q", "images": ["a\u0000.png"]})", "NUL"},
    {"image_object", R"({"query": "q", "images": [{"file": "a"}]})", "images[0]"},
    {"video_key", R"({"query": "q", "images": [{"frames": [], "speed": 1}]})", "images[0].speed"},
    {"video_fps", R"({"query": "q", "images": [{"frames": [], "fps": 0}]})", "images[0].fps"},
    {"stop_text", R"({"query": "q", "stop": "x"})", "'stop'"},
    {"specials", R"({"query": "q", "specials": "none"})", "'specials'"},
    {"deadline_negative", R"({"query": "q", "deadline_s": -1})", "'deadline_s'"},
    {"id_number", R"({"query": "q", "id": 1})", "'id'"},
    {"infer_mode", R"({"query": "q", "chat": {"infer_mode": "poem"}})", "chat.infer_mode"},
    {"hd_num_zero", R"({"query": "q", "chat": {"hd_num": 0}})", "chat.hd_num"},
    {"use_meta", R"({"query": "q", "chat": {"use_meta": 1}})", "chat.use_meta"},
    {"max_length_zero", R"({"query": "q", "chat": {"max_length": 0}})", "chat.max_length"},
    {"max_length_huge", R"({"query": "q", "chat": {"max_length": 1073741825}})", "chat.max_length"},
    {"max_length_text", R"({"query": "q", "chat": {"max_length": "long"}})", "chat.max_length"},
    {"chat_list", R"({"query": "q", "chat": []})", "'chat'"},
    {"generate_text", R"({"query": "q", "generate": "fast"})", "'generate'"},
    {"tokens_zero", Setting(R"("max_new_tokens": 0)"), "generate.max_new_tokens"},
    {"tokens_fraction", Setting(R"("max_new_tokens": 1.5)"), "generate.max_new_tokens"},
    {"tokens_huge", Setting(R"("max_new_tokens": 99999999999999999999)"),
     "generate.max_new_tokens"},
    {"tokens_uint64", Setting(R"("max_new_tokens": 18446744073709551615)"),
     "generate.max_new_tokens"},
    {"do_sample", Setting(R"("do_sample": 1)"), "generate.do_sample"},
    {"temperature", Setting(R"("temperature": -0.1)"), "generate.temperature"},
    {"top_p", Setting(R"("top_p": 1.01)"), "generate.top_p"},
    {"top_k", Setting(R"("top_k": -1)"), "generate.top_k"},
    {"beams", Setting(R"("num_beams": 0)"), "generate.num_beams"},
    {"penalty", Setting(R"("repetition_penalty": 0)"), "generate.repetition_penalty"},
    {"early", Setting(R"("early_stopping": "often")"), "generate.early_stopping"},
    {"eos", Setting(R"("eos_token_id": [2, "x"])"), "generate.eos_token_id[1]"},
    {"eos_negative", Setting(R"("eos_token_id": -2)"), "generate.eos_token_id"},
    {"seed_negative", Setting(R"("seed": -1)"), "generate.seed"},
    {"seed_huge", Setting(R"("seed": 18446744073709551616)"), "generate.seed"},
    {"min_length", Setting(R"("min_length": 5)"), "generate.min_length"},
    {"ngram", Setting(R"("no_repeat_ngram_size": 3)"), "generate.no_repeat_ngram_size"},
    {"typical", Setting(R"("typical_p": 0.9)"), "generate.typical_p"},
};

INSTANTIATE_TEST_SUITE_P(All, RequestAttack, ::testing::ValuesIn(kAttacks),
                         [](const auto& info) { return info.param.name; });

TEST(RequestAttackShapes, DeepNestingIsRefusedBeforeItCosts) {
  const std::string deep = R"({"query": "q", "rope": )" + std::string(1'000'000, '[');
  EXPECT_THAT(MessageOf(deep), HasSubstr("nested deeper"));
}

TEST(RequestAttackShapes, DeepNestingBelowIgnoredKeysIsBoundedToo) {
  std::string text = R"({"query": "q", "rope": )";
  text += std::string(63, '[') + std::string(63, ']') + "}";
  EXPECT_EQ(MessageOf(text), "no error");
}

TEST(RequestAttackShapes, AMessageDoesNotRepeatAHugeValue) {
  EXPECT_LT(
      MessageOf(R"({"query": "q", "deadline_s": ")" + std::string(1'000'000, 'x') + "\"}").size(),
      300u);
}

TEST(RequestAttackShapes, ALongListIsRead) {
  std::string text = "[";
  for (int i = 0; i < 5000; ++i) text += std::string(i ? "," : "") + R"({"query": "q"})";
  EXPECT_EQ(ParseRequests(text + "]", {}, "request").items.size(), 5000u);
}

TEST(RequestAttackShapes, AMissingFileIsARequestError) {
  EXPECT_THROW(ReadRequestFile("/nowhere/request.json", {}), Error);
  EXPECT_THROW(ReadRequestFile("/", {}), Error);
}

}  // namespace
}  // namespace xcomposer::cli
