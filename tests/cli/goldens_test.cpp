// The recorded cases of the reference, run as anybody would run them: through the command line.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "cli/golden_case.h"
#include "cli/program.h"

namespace xcomposer::testing {
namespace {

using nlohmann::json;
using ::testing::IsEmpty;

constexpr const char* kNoShared = "the folder with the reference goldens is not there";

std::string TestName(std::string text) {
  for (char& c : text) {
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  }
  return text;
}

bool CanRun() { return XCOMPOSER_HAVE_TEXT && XCOMPOSER_HAVE_PICTURES; }

// Every list of cases at once: several requests in flight must not change an answer.
class GoldenKind : public ::testing::TestWithParam<std::string> {};
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(GoldenKind);

TEST_P(GoldenKind, OneRunOverAllCases) {
  if (!CanRun()) GTEST_SKIP() << "this build has no tokenizer or no picture decoder";
  const TemporaryFolder temporary;
  std::vector<GoldenCase> cases;
  json requests = json::array();
  for (const GoldenCase& golden : GoldenCases()) {
    if (golden.kind != GetParam() || golden.depends_on_earlier()) continue;
    cases.push_back(golden);
    requests.push_back(golden.Request());
  }
  const std::string file = temporary.Write("cases.json", requests.dump());
  const ProgramOutput run =
      RunProgram({"generate", "--model", cases[0].folder + "/model", "--request", file,
                  "--image-root", SharedData(), cases[0].folder, "--json", "--devices", "cpu"});
  ASSERT_EQ(run.exit_code, 0) << run.err << run.out.substr(0, 2000);
  const json results = run.Json();
  for (size_t i = 0; i < cases.size(); ++i) {
    if (!cases[i].record.contains("output_ids")) continue;
    EXPECT_EQ(results.at(i).value("output_ids", json()), cases[i].record["output_ids"])
        << cases[i].name();
    EXPECT_EQ(results.at(i).value("text", json()), cases[i].record["output_text"])
        << cases[i].name();
  }
}

// Penalty, beams and the rotation beyond the position table follow the path, and the path follows
// from `images`, whether the prompt is text or ids.
TEST_P(GoldenKind, PromptsWithoutPicturesGivenAsIds) {
  const TemporaryFolder temporary;
  std::vector<GoldenCase> cases;
  json requests = json::array();
  for (const GoldenCase& golden : GoldenCases()) {
    const json& record = golden.record;
    if (golden.kind != GetParam() || golden.depends_on_earlier()) continue;
    if (!record.contains("output_ids") || !record.value("images", json()).empty()) continue;
    cases.push_back(golden);
    json chat = record.value("chat", json::object());
    for (const char* of_text : {"use_meta", "meta_instruction"}) chat.erase(of_text);
    json generate = record["generate"];
    generate.erase("use_cache");  // it follows from the path
    requests.push_back({{"token_ids", record["input_ids"]},
                        {"images", record.value("images", json())},
                        {"chat", chat},
                        {"generate", generate}});
  }
  if (cases.empty()) GTEST_SKIP() << "no answer without a picture was recorded";
  const std::string file = temporary.Write("ids.json", requests.dump());
  const ProgramOutput run = RunProgram({"generate", "--model", cases[0].folder + "/model",
                                        "--request", file, "--json", "--devices", "cpu"});
  ASSERT_EQ(run.exit_code, 0) << run.err << run.out.substr(0, 2000);
  const json results = run.Json();
  for (size_t i = 0; i < cases.size(); ++i) {
    EXPECT_EQ(results.at(i).value("output_ids", json()), cases[i].record["output_ids"])
        << cases[i].name();
  }
}

class Golden : public ::testing::TestWithParam<GoldenCase> {};
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(Golden);

TEST_P(Golden, AnswerAndTaps) {
  const GoldenCase& golden = GetParam();
  if (!CanRun()) GTEST_SKIP() << "this build has no tokenizer or no picture decoder";
  if (golden.depends_on_earlier()) {
    GTEST_SKIP() << golden.name() << ": what the reference does after another case is not imitated";
  }
  const TemporaryFolder folder;
  const std::string traced = folder / "trace.safetensors";
  const std::string file = folder.Write("case.json", golden.Request().dump());
  const ProgramOutput run =
      RunProgram({"trace", "--model", golden.folder + "/model", "--request", file, "--image-root",
                  SharedData(), golden.folder, "--out", traced, "--json", "--devices", "cpu"});
  ASSERT_EQ(run.exit_code, 0) << run.err << run.out.substr(0, 2000);
  if (golden.record.contains("output_ids")) {
    EXPECT_EQ(run.Json()["output_ids"], golden.record["output_ids"]);
    EXPECT_EQ(run.Json()["text"], golden.record["output_text"]);
  }
  EXPECT_THAT(CompareTaps(golden, traced), IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(All, GoldenKind, ::testing::ValuesIn(GoldenKinds()),
                         [](const auto& info) { return TestName(info.param); });
INSTANTIATE_TEST_SUITE_P(All, Golden, ::testing::ValuesIn(GoldenCases()), [](const auto& info) {
  return TestName(info.param.kind + "_" + info.param.name());
});

TEST(Goldens, AreThere) {
  if (GoldenCases().empty()) GTEST_SKIP() << kNoShared;
  EXPECT_GE(GoldenKinds().size(), 8u);
}

const GoldenCase* FindCase(const std::string& kind, const std::string& name) {
  for (const GoldenCase& golden : GoldenCases()) {
    if (golden.kind == kind && golden.name() == name) return &golden;
  }
  return nullptr;
}

// A comparison that has never failed is not known to compare: the taps of another question with the
// same number of rows must be reported, tensor by tensor.
TEST(Goldens, TapsOfAnotherQuestionAreReported) {
  const GoldenCase* golden = FindCase("2-vl-7b", "text_prefill");
  if (golden == nullptr) GTEST_SKIP() << kNoShared;
  if (!CanRun()) GTEST_SKIP() << "this build has no tokenizer or no picture decoder";
  const TemporaryFolder folder;
  json request = golden->Request();
  std::string query = request["query"];
  query.back() = query.back() == '?' ? '!' : '?';
  request["query"] = query;
  const ProgramOutput run =
      RunProgram({"trace", "--model", golden->folder + "/model", "--request",
                  folder.Write("case.json", request.dump()), "--out", folder / "trace"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_THAT(CompareTaps(*golden, folder / "trace"),
              ::testing::IsSupersetOf(
                  {::testing::StartsWith("layer1.out"), ::testing::StartsWith("prefill_logits")}));
}

// Two stages on one processor are the same model: not one bit may differ.
TEST(Goldens, TwoStagesGiveTheSameBits) {
  const GoldenCase* golden = FindCase("2-vl-7b", "text_greedy");
  if (golden == nullptr) GTEST_SKIP() << kNoShared;
  if (!CanRun()) GTEST_SKIP() << "this build has no tokenizer or no picture decoder";
  const TemporaryFolder folder;
  std::vector<std::map<std::string, Tensor>> traces;
  for (const std::string devices : {"cpu", "cpu,cpu"}) {
    const std::string traced = folder / (devices + ".safetensors");
    const ProgramOutput run =
        RunProgram({"trace", "--model", golden->folder + "/model", "--request",
                    golden->folder + "/cases.json", "--index", std::to_string(golden->index),
                    "--out", traced, "--taps", "logits,final_norm.out", "--devices", devices});
    ASSERT_EQ(run.exit_code, 0) << run.err;
    traces.push_back(ReadTensors(traced));
  }
  for (const char* name : {"logits", "final_norm.out"}) {
    EXPECT_EQ(traces[0].at(name).values, traces[1].at(name).values) << name;
  }
}

TEST(Goldens, RowsAndTapsNarrowWhatIsWritten) {
  const GoldenCase* golden = FindCase("2-vl-7b", "text_prefill");
  if (golden == nullptr) GTEST_SKIP() << kNoShared;
  if (!CanRun()) GTEST_SKIP() << "this build has no tokenizer or no picture decoder";
  const TemporaryFolder folder;
  const auto trace = [&](const std::string& name, std::vector<std::string> more) {
    std::vector<std::string> arguments = {"trace",
                                          "--model",
                                          golden->folder + "/model",
                                          "--request",
                                          golden->folder + "/cases.json",
                                          "--index",
                                          std::to_string(golden->index),
                                          "--out",
                                          folder / name};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const ProgramOutput run = RunProgram(arguments);
    EXPECT_EQ(run.exit_code, 0) << run.err;
    return ReadTensors(folder / name);
  };
  const auto whole = trace("whole", {});
  const auto part = trace("part", {"--taps", "layer0.out,prefill_logits", "--rows", "0-1,-2--1"});
  ASSERT_EQ(part.size(), 2u);
  const double length = static_cast<double>(whole.at("layer0.out").rows());
  const Tensor rows{"I32", {4}, {0, 1, length - 2, length - 1}};
  for (const char* name : {"layer0.out", "prefill_logits"}) {
    EXPECT_EQ(part.at(name).values, TakeRows(whole.at(name), rows).values) << name;
  }
}

// The reference's chat() of 2.5 has max_length as an argument (model specification 8.5).
TEST(Goldens, MaxLengthCutsAPromptOf25) {
  const GoldenCase* golden = FindCase("2.5-7b", "b_text");
  if (golden == nullptr) GTEST_SKIP() << kNoShared;
  if (!CanRun()) GTEST_SKIP() << "this build has no tokenizer or no picture decoder";
  const TemporaryFolder folder;
  const int64_t whole = static_cast<int64_t>(golden->record["input_ids"].size());
  for (const int64_t length : {whole, whole - 1, int64_t{5}}) {
    json request = golden->Request();
    request["chat"]["max_length"] = length;
    const std::string file = folder.Write("case.json", request.dump());
    const ProgramOutput run = RunProgram({"generate", "--model", golden->folder + "/model",
                                          "--request", file, "--json", "--devices", "cpu"});
    ASSERT_EQ(run.exit_code, 0) << run.err;
    EXPECT_EQ(run.Json()["prompt_tokens"], length);
    EXPECT_EQ(run.Json()["prompt_truncated"], whole - length);
    if (length == whole) {
      EXPECT_EQ(run.Json()["output_ids"], golden->record["output_ids"]);
    }
  }
}

}  // namespace
}  // namespace xcomposer::testing
