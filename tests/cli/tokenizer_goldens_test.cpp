// `tokenize` against the recorded encodings, with the real model file.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "cli/golden_case.h"
#include "cli/program.h"

namespace xcomposer::testing {
namespace {

using nlohmann::json;

// A checkpoint folder that holds the full vocabulary.
std::string ModelFolder() { return SharedData() + "/goldens/2-vl-7b-fullvocab/model"; }

bool CanRun() { return XCOMPOSER_HAVE_TEXT && std::filesystem::exists(ModelFolder()); }

json ReadJson(const std::string& path) {
  std::ifstream in(path);
  return json::parse(in);
}

// Sends one key of every record through the program and compares with another key.
void Compare(const json& records, const std::string& from, const std::string& to,
             std::vector<std::string> flags) {
  ProgramInput input;
  for (const json& record : records) input.text += record.at(from).dump() + "\n";
  flags.insert(flags.begin(), {"tokenize", "--model", ModelFolder()});
  const ProgramOutput run = RunProgram(flags, input);
  ASSERT_EQ(run.exit_code, 0) << run.err;
  std::istringstream lines(run.out);
  for (const json& record : records) {
    std::string line;
    ASSERT_TRUE(std::getline(lines, line));
    EXPECT_EQ(json::parse(line), record.at(to)) << record.at(from).dump();
  }
}

#define SKIP_WITHOUT_MODEL() \
  if (!CanRun())             \
  GTEST_SKIP() << "the reference goldens are not there, or this build has no sentencepiece"

TEST(TokenizeGoldens, TheModelFilesOwnEncoding) {
  SKIP_WITHOUT_MODEL();
  Compare(ReadJson(SharedData() + "/tokenizer/goldens.json"), "text", "ids", {});
}

TEST(TokenizeGoldens, ThePythonTokenizersEncoding) {
  SKIP_WITHOUT_MODEL();
  Compare(ReadJson(SharedData() + "/goldens/text.json")["encode"], "text", "ids", {"--hf"});
}

TEST(TokenizeGoldens, ThePythonTokenizersDecoding) {
  SKIP_WITHOUT_MODEL();
  Compare(ReadJson(SharedData() + "/goldens/text.json")["decode"], "ids", "text",
          {"--hf", "--decode"});
}

TEST(TokenizeGoldens, DecodingGivesTheTextBack) {
  SKIP_WITHOUT_MODEL();
  ProgramInput input;
  input.text = "\"Hello world\"\n\"请详细描述这张图片\"\n\"\xf0\x9f\x9a\x80 (normal)\"\n";
  const ProgramOutput ids = RunProgram({"tokenize", "--model", ModelFolder()}, input);
  const ProgramOutput text =
      RunProgram({"tokenize", "--model", ModelFolder(), "--decode"}, {ids.out, {}, false});
  EXPECT_EQ(text.out, input.text);
}

TEST(TokenizeGoldens, AnIdThatTheTokenizerLacksIsBadInput) {
  SKIP_WITHOUT_MODEL();
  const ProgramOutput run = RunProgram({"tokenize", "--model", ModelFolder(), "--decode", "--json"},
                                       {"[92543]\n[92544]\n", {}, false});
  EXPECT_EQ(run.exit_code, 3);
  EXPECT_NE(run.out.find(R"("line":"2")"), std::string::npos) << run.out;
}

TEST(TokenizeGoldens, ABrokenLineIsNamed) {
  SKIP_WITHOUT_MODEL();
  const ProgramOutput run = RunProgram({"tokenize", "--model", ModelFolder(), "--json"},
                                       {"\"fine\"\nnot json\n", {}, false});
  EXPECT_EQ(run.exit_code, 3);
  EXPECT_NE(run.out.find("line 2"), std::string::npos) << run.out;
}

}  // namespace
}  // namespace xcomposer::testing
