// Exit codes, errors and help of the command line.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "cli/program.h"

namespace xcomposer::testing {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

const char* const kCommands[] = {"generate", "chat",     "trace",   "tokenize", "inspect",
                                 "convert",  "quantize", "devices", "plan",     "bench"};

std::string KindOf(const ProgramOutput& run) { return run.Json()["error"]["kind"]; }

TEST(Usage, VersionIsPrinted) {
  const ProgramOutput run = RunProgram({"--version"});
  EXPECT_EQ(run.exit_code, 0);
  EXPECT_THAT(run.out, HasSubstr("xcomposer " XCOMPOSER_VERSION_TEXT));
}

TEST(Usage, EveryCommandHasShortHelpThatNamesItsFlags) {
  EXPECT_THAT(RunProgram({"--help"}).out, HasSubstr("Exit codes"));
  for (const char* command : kCommands) {
    const ProgramOutput run = RunProgram({command, "--help"});
    EXPECT_EQ(run.exit_code, 0) << command;
    EXPECT_THAT(run.err, IsEmpty()) << command;
    EXPECT_THAT(run.out, HasSubstr("--help")) << command;
    EXPECT_LT(std::count(run.out.begin(), run.out.end(), '\n'), 54) << command;
  }
  const std::string help = RunProgram({"generate", "--help"}).out;
  for (const char* flag : {"--dtype",
                           "--threads",
                           "--seed",
                           "--max-new-tokens",
                           "--num-beams",
                           "--temperature",
                           "--top-p",
                           "--top-k",
                           "--repetition-penalty",
                           "--greedy",
                           "--hd-num",
                           "--system",
                           "--quiet",
                           "--log-level",
                           "--devices",
                           "--device-map",
                           "--image-root",
                           "--weights",
                           "--kv",
                           "--activations"}) {
    EXPECT_THAT(help, HasSubstr(flag));
  }
}

TEST(Usage, WrongUsageIsTwo) {
  const std::vector<std::vector<std::string>> wrong = {
      {},
      {"frobnicate"},
      {"generate"},
      {"generate", "--model", "x"},
      {"generate", "--model", "x", "--prompt", "a", "--request", "b"},
      {"generate", "--model", "x", "--request", "b", "--image", "c"},
      {"generate", "--model", "x", "--prompt", "a", "--no-such-flag"},
      {"generate", "--model", "x", "--prompt", "a", "--top-p", "1.5"},
      {"generate", "--model", "x", "--prompt", "a", "--top-k", "many"},
      {"generate", "--model", "x", "--prompt", "a", "--temperature", "0"},
      {"generate", "--model", "x", "--prompt", "a", "--deadline", "0"},
      {"generate", "--model", "x", "--prompt", "a", "--seed", "-1"},
      {"generate", "--model", "x", "--prompt", "a", "--seed", "18446744073709551616"},
      {"generate", "--model", "x", "--prompt", "a", "--max-new-tokens", "0"},
      {"generate", "--model", "x", "--prompt", "a", "--dtype", "fp7"},
      {"generate", "--model", "x", "--prompt", "a", "--threads", "0"},
      {"generate", "--model", "x", "--prompt", "a", "--num-beams", "257"},
      {"generate", "--model", "x", "--prompt", "a", "--kv-tokens", "0"},
      {"trace", "--model", "x", "--request", "b"},
      {"trace", "--model", "x", "--request", "b", "--out", ""},
      {"plan", "--model", "x", "--svg", ""},
      {"plan", "--model", "x", "--kind", "foo"},
      {"inspect", "--model", "x", "--kind", "foo"},
      {"plan", "--model", "x", "--export-device-map", ""},
      {"convert", "--model", "x"},
      {"convert", "--model", "x", "--out", "y", "--matrices", "int8"},
      {"convert", "--model", "x", "--out", "y", "--threads", "0"},
      {"quantize", "--model", "x", "--out", "y"},
      {"quantize", "--model", "x", "--out", "y", "--weights", "int3"},
      {"quantize", "--model", "x", "--out", "y", "--weights", "bf12"},
      {"quantize", "--model", "x", "--out", "y", "--weights", "int4", "--group-size", "0"},
      {"generate", "--model", "x", "--prompt", "a", "--weights", "int7"},
      {"generate", "--model", "x", "--prompt", "a", "--kv", "int4"},
      {"generate", "--model", "x", "--prompt", "a", "--activations", "int8"},
      {"tokenize"}};
  for (std::vector<std::string> arguments : wrong) {
    const ProgramOutput run = RunProgram(arguments);
    EXPECT_EQ(run.exit_code, 2) << ::testing::PrintToString(arguments);
    EXPECT_THAT(run.out, IsEmpty());
    EXPECT_THAT(run.err, Not(IsEmpty()));
    arguments.push_back("--json");
    const ProgramOutput as_json = RunProgram(arguments);
    EXPECT_EQ(as_json.exit_code, 2) << ::testing::PrintToString(arguments);
    EXPECT_EQ(KindOf(as_json), "usage") << as_json.out;
  }
}

TEST(Usage, QuantizeSaysWhatWritesBf12) {
  const ProgramOutput run =
      RunProgram({"quantize", "--model", "x", "--out", "y", "--weights", "bf12"});
  EXPECT_EQ(run.exit_code, 2);
  EXPECT_THAT(run.err, HasSubstr("`convert --matrices bf12` writes it"));
}

TEST(Usage, WhatIsReadIsNotReplaced) {
  const TemporaryFolder folder;
  const std::string text = R"({"query": "q"})";
  const std::string request = folder.Write("r.json", text);
  const std::string config = folder.Write("config.json", "{");
  const ProgramOutput trace =
      RunProgram({"trace", "--model", "x", "--request", request, "--out", folder / "./r.json"});
  EXPECT_EQ(trace.exit_code, 2);
  EXPECT_THAT(trace.err, HasSubstr("would replace a file that is read"));
  for (const char* option : {"--export-device-map", "--svg"}) {
    const ProgramOutput plan = RunProgram({"plan", "--model", folder / "", option, config});
    EXPECT_EQ(plan.exit_code, 2) << option;
    EXPECT_THAT(plan.err, HasSubstr("would replace a file that is read"));
  }
}

TEST(Usage, AnUnknownCommandIsNamed) {
  const ProgramOutput run = RunProgram({"generat", "--json"});
  EXPECT_EQ(run.exit_code, 2);
  EXPECT_THAT(run.Json()["error"]["message"].get<std::string>(), HasSubstr("'generat'"));
}

// Else what a user has set would change what the tests find.
TEST(Usage, TheProgramDoesNotSeeTheEnvironmentOfTheTests) {
  setenv("XCOMPOSER_MODEL", "/nowhere", 1);
  setenv("SLURM_PROCID", "0", 1);
  const ProgramOutput run = RunProgram({"inspect"});
  unsetenv("XCOMPOSER_MODEL");
  unsetenv("SLURM_PROCID");
  EXPECT_EQ(run.exit_code, 2);
  EXPECT_THAT(run.err, HasSubstr("--model"));
}

TEST(Usage, TheEnvironmentSetsOptions) {
  const ProgramOutput missing =
      RunProgram({"inspect", "--json"}, {"", {{"XCOMPOSER_MODEL", "/nowhere"}}, false});
  EXPECT_EQ(missing.exit_code, 4);
  const ProgramOutput wrong =
      RunProgram({"generate", "--model", "x", "--prompt", "a"},
                 {"", {{"XCOMPOSER_TOP_P", "7"}, {"XCOMPOSER_JSON", "1"}}, false});
  EXPECT_EQ(wrong.exit_code, 2);
  EXPECT_EQ(KindOf(wrong), "usage");
  EXPECT_THAT(wrong.out, HasSubstr("--top-p"));
  for (const char* json : {"0", "no", "", "maybe", "99999999999999999999999", "-"}) {
    const ProgramOutput text =
        RunProgram({"generate", "--model", "x", "--prompt", "a"},
                   {"", {{"XCOMPOSER_TOP_P", "7"}, {"XCOMPOSER_JSON", json}}, false});
    EXPECT_EQ(text.exit_code, 2) << json << text.err;
    if (std::string(json).size() < 20) {
      EXPECT_THAT(text.out, IsEmpty()) << json;
    }
  }
}

TEST(Usage, TheEnvironmentLimitsInstructionSets) {
  const auto found = [](const std::string& most) -> std::string {
    const ProgramOutput output =
        RunProgram({"devices", "--json"}, {"", {{"XCOMPOSER_MAX_ISA", most}}, false});
    EXPECT_EQ(output.exit_code, 0) << output.err;
    return output.Json()["nodes"][0]["devices"][0]["instructions"];
  };
  EXPECT_EQ(found("portable"), "portable");
  const std::string best = found("");
  EXPECT_EQ(found(best), best);  // a limit is not itself excluded
  const ProgramOutput unknown =
      RunProgram({"devices", "--json"}, {"", {{"XCOMPOSER_MAX_ISA", "sse"}}, false});
  EXPECT_EQ(unknown.exit_code, 2);
  EXPECT_EQ(KindOf(unknown), "usage");
  EXPECT_THAT(unknown.out, HasSubstr("XCOMPOSER_MAX_ISA"));
}

TEST(Usage, BadInputIsThree) {
  const TemporaryFolder folder;
  const std::vector<std::string> files = {
      folder / "gone.json", folder.Write("cut.json", "{\"query\":"),
      folder.Write("key.json", R"({"query": "q", "nonsense": 1})"),
      folder.Write("image.json", R"({"query": "q", "images": ["gone.png"]})")};
  for (const std::string& file : files) {
    const ProgramOutput run = RunProgram({"generate", "--model", "x", "--request", file, "--json"});
    EXPECT_EQ(run.exit_code, 3) << file;
    EXPECT_THAT(run.Json()["error"]["message"].get<std::string>(), Not(IsEmpty()));
  }
  const ProgramOutput unusual = RunProgram({"generate", "--model", "x", "--request", "/"});
  EXPECT_THAT(unusual.err, HasSubstr("expected a regular file"));
  EXPECT_EQ(RunProgram({"generate", "--model", "x", "--prompt", "caf\xe9"}).exit_code, 3);
  EXPECT_EQ(
      RunProgram({"generate", "--model", "x", "--prompt", "a", "--image", "gone.png"}).exit_code,
      3);
}

TEST(Usage, AListOfBrokenRequestsIsAListOfErrors) {
  const TemporaryFolder folder;
  const std::string file = folder.Write("list.json", R"([{"query": 1}, {"images": null}])");
  const ProgramOutput run = RunProgram({"generate", "--model", "x", "--request", file, "--json"});
  EXPECT_EQ(run.exit_code, 3);
  const json list = run.Json();
  ASSERT_EQ(list.size(), 2u);
  EXPECT_EQ(list[0]["error"]["kind"], "request");
  EXPECT_EQ(list[1]["error"]["where"]["request"], "1");
}

TEST(Usage, WhereIsSaidUnlessTheMessageNamesIt) {
  const TemporaryFolder folder;
  const std::string file = folder.Write(
      "list.json",
      R"([{"query": 1}, {"query": "q", "generate": {"temperature": "1023"}}, {"gone.png": 1}])");
  const ProgramOutput run = RunProgram({"generate", "--model", "x", "--request", file});
  EXPECT_EQ(run.exit_code, 3);
  // Digits of another number do not name the request.
  EXPECT_THAT(run.err, HasSubstr("  request: 0\n"));
  EXPECT_THAT(run.err, HasSubstr("  request: 1\n"));
  EXPECT_THAT(run.err, HasSubstr("  request: 2\n"));
  const ProgramOutput missing = RunProgram({"inspect", "--model", "/nowhere/at/all"});
  EXPECT_THAT(missing.err, AllOf(HasSubstr("'/nowhere/at/all'"), Not(HasSubstr("  model: "))));
}

TEST(Usage, ABadCheckpointIsFour) {
  const TemporaryFolder folder;
  folder.Write("config.json", "{");
  folder.Write("tokenizer.model", "no tokenizer");
  const std::string model = folder / "";
  for (const std::vector<std::string>& arguments : std::vector<std::vector<std::string>>{
           {"generate", "--prompt", "a"},
           {"inspect"},
           {"tokenize"},
           {"convert", "--out", folder / "out"},
           {"quantize", "--out", folder / "out", "--weights", "int8"},
           {"trace", "--request", folder.Write("r.json", R"({"query": "q"})"), "--out",
            folder / "t"}}) {
    for (const std::string& where : {model, std::string("/nowhere/at/all")}) {
      std::vector<std::string> full = arguments;
      full.insert(full.end(), {"--model", where, "--json"});
      const ProgramOutput run = RunProgram(full);
      EXPECT_EQ(run.exit_code, 4) << ::testing::PrintToString(full) << run.out << run.err;
      EXPECT_TRUE(run.Json().contains("error"));
    }
  }
}

TEST(Usage, DevicesListsTheProcessor) {
  const ProgramOutput run = RunProgram({"devices", "--json"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const json device = run.Json()["nodes"][0]["devices"][0];
  EXPECT_EQ(device["kind"], "cpu");
  EXPECT_GT(device["memory"].get<int64_t>(), device["free"].get<int64_t>());
  EXPECT_GT(device["free"].get<int64_t>(), 0);
  const ProgramOutput text = RunProgram({"devices"});
  EXPECT_EQ(text.exit_code, 0);
  const json versions = run.Json()["versions"];
  if (versions["cuda_runtime"] == "") {  // a build without CUDA says so
    EXPECT_THAT(text.out, HasSubstr("CUDA: " + std::string(versions["cuda_problem"])));
  }
}

TEST(Usage, OutputThatCannotBeWrittenIsAFailure) {
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "there is no /dev/full";
  const std::string command = std::string(XCOMPOSER_PROGRAM) + " devices > /dev/full 2> /dev/null";
  EXPECT_EQ(WEXITSTATUS(std::system(command.c_str())), 1);
}

}  // namespace
}  // namespace xcomposer::testing
