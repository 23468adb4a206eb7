// `xcomposer bench` as a user runs it. Nothing here asks how fast anything was.
#include <cmath>
#include <set>

#include "cli/program.h"
#include "config/config_texts.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace xcomposer::testing {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

const std::string kDemo = XCOMPOSER_SOURCE_DIR "/demo/checkpoint";

/// A few runs that take no time.
std::vector<std::string> Short(std::vector<std::string> more, int64_t runs = 2) {
  std::vector<std::string> arguments = {
      "bench",    "--prompt-tokens",   "7,20", "--context", "5", "--new-tokens", "4",
      "--repeat", std::to_string(runs)};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

json Report(std::vector<std::string> arguments) {
  arguments.push_back("--json");
  const ProgramOutput run = RunProgram(arguments);
  EXPECT_EQ(run.exit_code, 0) << run.out << run.err;
  return run.Json();
}

std::vector<std::string> NamesOf(const json& list) {
  std::vector<std::string> names;
  for (const json& entry : list) names.push_back(entry["name"]);
  return names;
}

const json& Figure(const json& report, const std::string& name) {
  for (const json& figure : report["figures"]) {
    if (figure["name"] == name) return figure;
  }
  throw std::runtime_error("no figure " + name);
}

void ExpectSpread(const json& spread, int64_t runs, const std::string& of) {
  SCOPED_TRACE(of);
  EXPECT_EQ(spread["runs"], runs);
  EXPECT_GT(spread["min"].get<double>(), 0);
  EXPECT_LE(spread["min"].get<double>(), spread["median"].get<double>());
  EXPECT_LE(spread["median"].get<double>(), spread["max"].get<double>());
}

/// Rates follow from amounts and times; the fastest run has the highest one.
void ExpectRate(const json& figure, const char* rate, double amount) {
  SCOPED_TRACE(figure["name"].get<std::string>() + " " + rate);
  const double slowest = amount / figure["seconds"]["max"].get<double>();
  const double fastest = amount / figure["seconds"]["min"].get<double>();
  EXPECT_NEAR(figure[rate]["min"].get<double>(), slowest, 1e-9 * slowest);
  EXPECT_NEAR(figure[rate]["max"].get<double>(), fastest, 1e-9 * fastest);
}

TEST(Bench, ReportsEveryPhaseOfTheDemo) {
  const json report = Report(Short({"--model", kDemo}));
  EXPECT_EQ(report["version"], XCOMPOSER_VERSION_TEXT);
  EXPECT_THAT(report["commit"].get<std::string>(),
              ::testing::MatchesRegex("([0-9a-f]+(-dirty)?)?"));
  EXPECT_THAT(NamesOf(report["figures"]), ElementsAre("load", "vision", "prefill picture",
                                                      "prefill 7", "prefill 20", "decode 5"));
  EXPECT_THAT(NamesOf(report["limits"]), ElementsAre("memory read", "fp32 fma"));
  for (const json& limit : report["limits"]) {
    EXPECT_TRUE(limit["measured"].get<bool>());
    ExpectSpread(limit["rate"], limit["rate"]["runs"], limit["name"]);
  }
  for (const json& figure : report["figures"]) {
    ExpectSpread(figure["seconds"], 2, figure["name"]);
    if (figure["phase"] == "load") continue;
    ExpectRate(figure, "tokens_per_s", figure["rows"]);
    ExpectRate(figure, "bytes_per_s", figure["bytes"]);
    ExpectRate(figure, "operations_per_s", figure["operations"]);
  }
  EXPECT_EQ(report["machine"]["devices"], json({"cpu"}));
  EXPECT_EQ(report["model"]["kind"], "2-vl-7b");
  EXPECT_EQ(report["model"]["weights"], "bf16");
  EXPECT_EQ(report["model"]["kv"], "fp32");
  EXPECT_FALSE(report["model"]["random"].get<bool>());
}

TEST(Bench, CountsWhatTheDemoComputes) {
  const json report = Report(Short({"--model", kDemo}));
  // 3 layers: wqkv 256x128, wo 128x128, three of 384x128, two norms; the head is 1024x128.
  const double layers = 3 * (256 * 128 + 128 * 128 + 3 * 384 * 128 + 2 * 128);
  const double head = 1024 * 128;
  const json& prefill = Figure(report, "prefill 20");
  EXPECT_EQ(prefill["rows"], 20);
  EXPECT_EQ(prefill["operations"], 2 * 20 * layers + 3 * 2 * 20 * 20 * 128 + 2 * head);
  EXPECT_EQ(prefill["bytes"], 2 * (layers + head));
  const json& decode = Figure(report, "decode 5");
  EXPECT_EQ(decode["rows"], 3);  // the first of four tokens comes with the prompt
  EXPECT_EQ(decode["context"], 5);
  // The demo has one key and one value head of 64; three tokens see 6, 7 and 8 positions.
  EXPECT_EQ(decode["operations"], 3 * 2 * (layers + head) + 3 * 4 * (6 + 7 + 8) * 128);
  const json& picture = Figure(report, "prefill picture");
  EXPECT_EQ(picture["picture_rows"], 36);
  EXPECT_EQ(picture["rows"], 100);
  EXPECT_EQ(Figure(report, "vision")["picture_rows"], 36);
  // So little stays in the cache: what memory could do says nothing about it.
  for (const json& share : decode["shares"]) EXPECT_NE(share["limit"], "memory read");
}

TEST(Bench, SharesAreWorkOverTimeAndLimit) {
  const json report = Report(Short({"--model", kDemo}, 1));
  std::map<std::string, json> limits;
  for (const json& limit : report["limits"]) limits[limit["name"]] = limit;
  int64_t seen = 0;
  for (const json& figure : report["figures"]) {
    for (const json& share : figure["shares"]) {
      const json& limit = limits.at(share["limit"]);
      const double amount = limit["unit"] == "B/s" ? figure["bytes"] : figure["operations"];
      const double rate = amount / figure["seconds"]["median"].get<double>();
      EXPECT_GE(share["percent"]["max"].get<double>() * 1.000001,
                100 * rate / limit["rate"]["max"].get<double>());
      EXPECT_LE(share["percent"]["min"].get<double>() * 0.999999,
                100 * rate / limit["rate"]["min"].get<double>());
      ++seen;
    }
    EXPECT_EQ(limits.count(figure["bound"].is_null() ? "" : figure["bound"].get<std::string>()),
              figure["shares"].empty() ? 0u : 1u);
  }
  EXPECT_GE(seen, 5);
}

TEST(Bench, PeopleGetATable) {
  const ProgramOutput run = RunProgram(Short({"--model", kDemo, "--threads", "1"}));
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_THAT(run.err, IsEmpty());
  EXPECT_THAT(run.out, AllOf(HasSubstr("xcomposer " XCOMPOSER_VERSION_TEXT), HasSubstr("1 threads"),
                             HasSubstr("limit fp32 fma: "), HasSubstr("prefill picture"),
                             ContainsRegex("\ndecode 5 +3 ")));
}

TEST(Bench, FiguresCanBeLeftOut) {
  const json report = Report({"bench", "--model", kDemo, "--repeat", "1", "--no-picture",
                              "--prompt-tokens", "none", "--new-tokens", "2"});
  EXPECT_THAT(NamesOf(report["figures"]), ElementsAre("load", "decode 128"));
  EXPECT_EQ(Figure(report, "decode 128")["rows"], 1);
}

TEST(Bench, QuantisedWeightsHaveALimitOfTheirOwn) {
  const json report = Report(Short({"--model", kDemo, "--weights", "int8", "--no-picture"}, 1));
  EXPECT_EQ(report["model"]["weights"], "int8");
  const std::vector<std::string> limits = NamesOf(report["limits"]);
  const bool has_dot = report["machine"]["kernels"] != "portable";
  EXPECT_EQ(limits.size(), has_dot ? 3u : 2u);
  EXPECT_EQ(limits.back(), has_dot ? "int8 dot" : "fp32 fma");
  const json stored = Report(Short({"--model", kDemo, "--no-picture"}, 1));
  const json& eight = Figure(report, "prefill 20");
  const json& sixteen = Figure(stored, "prefill 20");
  EXPECT_EQ(eight["operations"], sixteen["operations"]);
  EXPECT_LT(eight["bytes"].get<double>(), sixteen["bytes"].get<double>());
}

// Of the demo's 3 layers with 128 inputs all linears are packed, and its output matrix.
TEST(Bench, PackedWeightsAreReadAsSuch) {
  const json packed = Report(Short({"--model", kDemo, "--weights", "bf12", "--no-picture"}, 1));
  EXPECT_EQ(packed["model"]["weights"], "bf12");
  EXPECT_THAT(NamesOf(packed["limits"]), ElementsAre("memory read", "fp32 fma"));
  const json stored = Report(Short({"--model", kDemo, "--no-picture"}, 1));
  const double now = Figure(packed, "prefill 20")["bytes"];
  const double before = Figure(stored, "prefill 20")["bytes"];
  EXPECT_GT(now, 0.75 * before);
  EXPECT_LT(now, 0.79 * before);
  EXPECT_EQ(Figure(packed, "prefill 20")["operations"], Figure(stored, "prefill 20")["operations"]);
}

TEST(Bench, RoundedActivationsHaveALimitOfTheirOwn) {
  const json plain = Report(Short({"--model", kDemo, "--no-picture"}, 1));
  EXPECT_EQ(plain["model"]["activations"], "fp32");
  const json report = Report(Short({"--model", kDemo, "--activations", "bf16"}, 1));
  const std::string kernels = report["machine"]["kernels"];
  const bool has_dot = kernels == "avx512bf16" || kernels == "amx";
  EXPECT_EQ(report["model"]["activations"], has_dot ? "bf16" : "fp32");
  EXPECT_EQ(NamesOf(report["limits"]).back(), has_dot ? "bf16 dot" : "fp32 fma");
  EXPECT_EQ(Figure(report, "prefill 20")["operations"], Figure(plain, "prefill 20")["operations"]);
  const ProgramOutput table =
      RunProgram(Short({"--model", kDemo, "--activations", "bf16", "--no-picture"}, 1));
  EXPECT_EQ(table.out.find(", activations in bf16\n") != std::string::npos, has_dot);
  EXPECT_EQ(table.err.find("activations stay float32") != std::string::npos, !has_dot);
}

TEST(Bench, KeysAndValuesInInt8AreReadAsSuch) {
  const json report = Report(Short({"--model", kDemo, "--kv", "int8", "--no-picture"}, 1));
  EXPECT_EQ(report["model"]["kv"], "int8");
  const json plain = Report(Short({"--model", kDemo, "--no-picture"}, 1));
  // 3 layers with keys and values of one head of 64 numbers; three tokens see 6, 7 and 8 positions.
  EXPECT_EQ(Figure(plain, "decode 5")["bytes"].get<double>() -
                Figure(report, "decode 5")["bytes"].get<double>(),
            3 * (6 + 7 + 8) * 2 * (64 * 4 - (64 + 2 * 2)));
  EXPECT_EQ(Figure(plain, "prefill 20")["bytes"], Figure(report, "prefill 20")["bytes"]);
  const ProgramOutput table = RunProgram(Short({"--model", kDemo, "--kv", "int8"}, 1));
  EXPECT_THAT(table.out, HasSubstr(", keys and values in int8\n"));
}

/// A config.json of the kind, scaled down.
json SmallConfig(Kind kind) {
  json config = ShippedConfig(kind);
  config["hidden_size"] = 256;
  config["intermediate_size"] = 384;
  config["num_hidden_layers"] = 2;
  config["num_attention_heads"] = 4;
  config["num_key_value_heads"] = 2;
  config["vocab_size"] = 512;
  return config;
}

TEST(Bench, WeightsCanBeDrawn) {
  const TemporaryFolder folder;
  const std::string config = folder.Write("config.json", SmallConfig(Kind::k2_7b).dump());
  for (const char* weights : {"stored", "bf12", "int8", "int4"}) {
    const json report = Report(Short({"--random", config, "--weights", weights}, 1));
    EXPECT_TRUE(report["model"]["random"].get<bool>());
    EXPECT_EQ(report["model"]["layers"], 2);
    // Drawing is not loading.
    EXPECT_THAT(NamesOf(report["figures"]),
                ElementsAre("vision", "prefill picture", "prefill 7", "prefill 20", "decode 5"));
    EXPECT_EQ(Figure(report, "vision")["picture_rows"], 256);
  }
  const json wide = Report(Short({"--random", config, "--dtype", "fp32", "--no-picture"}));
  const json half = Report(Short({"--random", config, "--dtype", "fp16", "--no-picture"}));
  EXPECT_EQ(wide["model"]["weights"], "fp32");
  EXPECT_EQ(half["model"]["weights"], "fp16");
  const ProgramOutput refused =
      RunProgram(Short({"--random", config, "--dtype", "fp16", "--weights", "bf12"}, 1));
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_THAT(refused.err + refused.out, HasSubstr("the weights are fp16"));
  EXPECT_EQ(wide["model"]["weight_bytes"], 2 * half["model"]["weight_bytes"].get<int64_t>());
}

TEST(Bench, PartsOnSeveralDevicesAreMeasuredTogether) {
  const json report = Report(Short({"--model", kDemo, "--devices", "cpu,cpu", "--no-picture"}, 1));
  EXPECT_EQ(report["machine"]["devices"], json({"cpu", "cpu"}));
  EXPECT_THAT(NamesOf(report["limits"]), ElementsAre("memory read", "fp32 fma"));
}

TEST(Bench, WrongUsageIsTwo) {
  const std::vector<std::vector<std::string>> wrong = {
      {"bench"},
      {"bench", "--model", kDemo, "--random", "2-vl-7b"},
      {"bench", "--model", kDemo, "--prompt-tokens", "0"},
      {"bench", "--model", kDemo, "--prompt-tokens", "1,x"},
      {"bench", "--model", kDemo, "--context", ""},
      {"bench", "--model", kDemo, "--new-tokens", "1"},
      {"bench", "--model", kDemo, "--repeat", "0"},
      {"bench", "--model", kDemo, "--image-size", "100"},
      {"bench", "--model", kDemo, "--image-size", "0x5"},
      {"bench", "--model", kDemo, "--hd-num", "0"},
      {"bench", "--model", kDemo, "--threads", "0"},
      {"bench", "--model", kDemo, "--weights", "int7"}};
  for (std::vector<std::string> arguments : wrong) {
    const ProgramOutput run = RunProgram(arguments);
    EXPECT_EQ(run.exit_code, 2) << ::testing::PrintToString(arguments) << run.out << run.err;
    EXPECT_THAT(run.out, IsEmpty());
    EXPECT_THAT(run.err, Not(IsEmpty()));
    arguments.push_back("--json");
    const ProgramOutput as_json = RunProgram(arguments);
    EXPECT_EQ(as_json.exit_code, 2);
    EXPECT_EQ(as_json.Json()["error"]["kind"], "usage");
  }
}

TEST(Bench, EveryFailureHasItsKind) {
  const auto expect = [](std::vector<std::string> arguments, int exit_code, const char* kind) {
    arguments.push_back("--json");
    const ProgramOutput run = RunProgram(arguments);
    EXPECT_EQ(run.exit_code, exit_code) << ::testing::PrintToString(arguments) << run.out;
    EXPECT_EQ(run.Json()["error"]["kind"], kind) << run.out;
    return run.Json()["error"]["message"].get<std::string>();
  };
  expect({"bench", "--model", "/nowhere"}, 4, "checkpoint");
  EXPECT_THAT(expect({"bench", "--random", "2-vl-8b"}, 4, "config"), HasSubstr("2-vl-7b"));
  expect({"bench", "--model", kDemo, "--devices", "cuda:77"}, 5, "device");
  // Longer than any KV cache that fits beside the demo.
  expect({"bench", "--model", kDemo, "--no-picture", "--prompt-tokens", "1048576", "--context",
          "none"},
         5, "capacity");
}

TEST(Bench, TheEnvironmentSetsOptions) {
  const ProgramOutput run = RunProgram(
      {"bench", "--model", kDemo, "--no-picture", "--json"},
      {"",
       {{"XCOMPOSER_REPEAT", "1"}, {"XCOMPOSER_PROMPT_TOKENS", "3"}, {"XCOMPOSER_CONTEXT", "none"}},
       false});
  EXPECT_EQ(run.exit_code, 0) << run.out;
  EXPECT_THAT(NamesOf(run.Json()["figures"]), ElementsAre("load", "prefill 3"));
}

}  // namespace
}  // namespace xcomposer::testing
