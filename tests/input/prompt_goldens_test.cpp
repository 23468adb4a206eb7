#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "input/detokenizer.h"
#include "input/prompt.h"

/// The prompts and answers of every recorded case of every kind.
namespace xcomposer {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

/// "2-vl-7b-fullvocab" is a 2-vl-7b: the longest name that the folder's begins with.
Kind KindOfFolder(const std::string& folder) {
  Kind found = Kind::k2_7b;
  size_t longest = 0;
  for (const Kind kind : kAllKinds) {
    const std::string name = ToString(kind);
    if (folder.starts_with(name) && name.size() > longest) {
      found = kind;
      longest = name.size();
    }
  }
  EXPECT_GT(longest, 0u) << "unknown kind folder " << folder;
  return found;
}

/// Lengths of the runs of -1, which are the pictures unless two stand side by side.
std::vector<int64_t> PictureRowsOf(const json& item, size_t pictures) {
  std::vector<int64_t> rows;
  int64_t previous = 0;
  for (const int64_t id : item.at("input_ids").get<std::vector<int64_t>>()) {
    if (id == -1 && previous != -1) rows.push_back(0);
    if (id == -1) ++rows.back();
    previous = id;
  }
  for (size_t i = 0; i < pictures; ++i) {
    const std::string key = "image" + std::to_string(i) + ".rows";
    if (item.contains(key)) {
      EXPECT_EQ(rows.at(i), item.at(key).get<int64_t>());
    }
  }
  return rows;
}

PromptRequest RequestOf(const json& item) {
  PromptRequest request;
  request.query = item.at("query");
  for (const json& turn : item.at("history")) request.history.push_back({turn.at(0), turn.at(1)});
  if (item.contains("images")) {
    request.pictures =
        item.at("images").is_null() ? PictureArgument::kNull : PictureArgument::kList;
    request.picture_rows = PictureRowsOf(item, item.at("images").size());
  }
  request.meta_instruction = item.at("meta_instruction").get<std::string>();
  if (item.contains("chat") && item.at("chat").contains("use_meta")) {
    request.use_meta = item.at("chat").at("use_meta").get<bool>();
  }
  return request;
}

void CheckCase(const json& item, const CheckpointTokenizer& tokenizer, const PromptStyle& style) {
  SCOPED_TRACE(item.at("name").get<std::string>());
  const Prompt prompt = BuildPrompt(tokenizer, style, RequestOf(item));
  EXPECT_EQ(prompt.text, item.at("prompt_text").get<std::string>());
  EXPECT_EQ(prompt.ids, item.at("input_ids").get<std::vector<int32_t>>());
  if (item.contains("text_pieces")) {
    EXPECT_EQ(prompt.pieces, item.at("text_pieces").get<std::vector<std::string>>());
  }
  if (item.contains("penalty_ids")) {
    EXPECT_EQ(prompt.penalty_ids, item.at("penalty_ids").get<std::vector<int32_t>>());
  }
  if (!item.contains("output_text") || !item.contains("output_ids")) return;
  const auto answer = item.at("output_ids").get<std::vector<int32_t>>();
  const std::string text = AnswerText(tokenizer, answer);
  EXPECT_EQ(text, item.at("output_text").get<std::string>());
  IncrementalDetokenizer stream(tokenizer);
  std::string joined;
  for (const int32_t id : answer) joined += stream.Push(id).text;
  EXPECT_EQ(joined + stream.Finish().text, text);
}

TEST(PromptGoldens, EveryCaseOfEveryKind) {
  const fs::path goldens = fs::path(XCOMPOSER_SHARED_DIR) / "data/goldens";
  if (!fs::exists(goldens)) GTEST_SKIP() << "no " << goldens;
  std::map<std::string, int> cases;
  for (const auto& entry : fs::directory_iterator(goldens)) {
    if (!fs::exists(entry.path() / "cases.json")) continue;
    const std::string folder = entry.path().filename();
    SCOPED_TRACE(folder);
    const Kind kind = KindOfFolder(folder);
    const bool gptq = fs::exists(entry.path() / "model/quantize_config.json");
    const auto tokenizer = LoadTokenizer(entry.path() / "model", TokenizerStyleFor(kind));
    const PromptStyle style =
        PromptStyleFor(kind, gptq ? PromptRevision::kBeforeFebruary2024 : PromptRevision::kMain);
    for (const json& item : json::parse(std::ifstream(entry.path() / "cases.json"))) {
      CheckCase(item, *tokenizer, style);
      ++cases[folder];
    }
  }
  EXPECT_GE(cases.size(), 8u);
}

}  // namespace
}  // namespace xcomposer
