// The progress bars of loading and of a prompt, as a terminal gets them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/program.h"

namespace xcomposer::testing {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

const std::string kDemo = XCOMPOSER_SOURCE_DIR "/demo/checkpoint";
constexpr const char* kGone = "\r\033[K";  // what clears a bar

ProgramOutput GenerateOnTerminal(const std::vector<std::string>& more) {
  const TemporaryFolder folder;
  const json request = {{"token_ids", std::vector<int>(300, 5)},
                        {"generate", {{"do_sample", false}, {"max_new_tokens", 2}}}};
  std::vector<std::string> arguments = {
      "generate",        "--model", kDemo, "--request", folder.Write("r.json", request.dump()),
      "--prefill-chunk", "64"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  ProgramInput input;
  input.terminal = true;
  return RunProgram(arguments, input);
}

TEST(Progress, LoadingAndPromptHaveBarsThatGoAgain) {
  const ProgramOutput run = GenerateOnTerminal({});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_THAT(run.err, HasSubstr("loading ["));
  EXPECT_THAT(run.err, HasSubstr("prompt [..............................] 0% of 300 rows"));
  EXPECT_THAT(run.err, HasSubstr("prompt [######........................] 21% of 300 rows"));
  const std::string whole = "prompt [##############################] 100% of 300 rows\033[K";
  // Cleared at once, and only then the statistics.
  EXPECT_THAT(run.err, HasSubstr(whole + kGone + "[300 prompt tokens"));
}

TEST(Progress, ThereIsNoneWhereNobodyLooks) {
  EXPECT_THAT(GenerateOnTerminal({"--quiet"}).err, IsEmpty());
  const ProgramOutput piped = RunProgram(
      {"generate", "--model", kDemo, "--prompt", "Hello", "--greedy", "--max-new-tokens", "1"});
  EXPECT_THAT(piped.err, Not(HasSubstr("prompt [")));
}

TEST(Progress, ChatShowsThePromptToo) {
  if (!XCOMPOSER_HAVE_TEXT) GTEST_SKIP() << "this build has no tokenizer";
  ProgramInput input;
  input.terminal = true;
  input.text = "Hello\n";
  const std::vector<std::string> chat = {"chat",     "--model",          kDemo,
                                         "--greedy", "--max-new-tokens", "1"};
  const ProgramOutput run = RunProgram(chat, input);
  EXPECT_THAT(run.err, AllOf(HasSubstr("] 0% of "), HasSubstr(" rows\033[K" + std::string(kGone))));
  std::vector<std::string> quiet = chat;
  quiet.push_back("--quiet");
  EXPECT_THAT(RunProgram(quiet, input).err, Not(HasSubstr("prompt [")));
}

}  // namespace
}  // namespace xcomposer::testing
