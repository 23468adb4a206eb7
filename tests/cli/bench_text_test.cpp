// How a benchmark's report is shown, from a report that is made up here.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "bench_json.h"
#include "bench_table.h"
#include "token_counts.h"
#include "xcomposer/error.h"

namespace xcomposer::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

Spread Three(double low, double median, double high) {
  return {.median = median, .min = low, .max = high, .runs = 3};
}

BenchmarkReport MadeUp() {
  BenchmarkReport report;
  report.version = "1.2.3";
  report.commit = "abcdef012345-dirty";
  report.host = "here";
  report.processor = "a processor";
  report.kernels = "avx2";
  report.threads = 2;
  report.devices = {"cpu"};
  report.model.kind = "2-vl-7b";
  report.model.path = "/models/vl";
  report.model.parameters = 8666838016;
  report.model.weight_bytes = 17333676032;
  report.weights = "bf16";
  report.kv = "fp32";
  report.limits = {{"memory read", "a loop", "B/s", true, Three(32e9, 33e9, 34e9)},
                   {"fp32 fma", "another", "op/s", true, Three(370e9, 371e9, 372e9)}};
  BenchmarkFigure load;
  load.name = load.phase = "load";
  load.seconds = Three(0.1, 0.2, 0.5);
  load.bytes_per_s = Three(35e9, 87e9, 170e9);
  BenchmarkFigure decode;
  decode.name = "decode 128";
  decode.phase = "decode";
  decode.rows = 31;
  decode.context = 128;
  decode.seconds = {.median = 15.5, .min = 15.5, .max = 15.5, .runs = 1};
  decode.rows_per_s = {.median = 2, .min = 2, .max = 2, .runs = 1};
  decode.bytes_per_s = {.median = 29.4e9, .min = 29.4e9, .max = 29.4e9, .runs = 1};
  decode.operations_per_s = {.median = 29.4e9, .min = 29.4e9, .max = 29.4e9, .runs = 1};
  decode.shares = {{"fp32 fma", {7.9, 7.9, 7.9, 1}}, {"memory read", {89.1, 89.1, 89.1, 1}}};
  decode.bound = "memory read";
  decode.foreign_cpu = 0.25;
  report.figures = {load, decode};
  report.foreign_cpu = 0.5;
  report.stolen_cpu = 0;
  report.warnings = {"something is odd"};
  return report;
}

TEST(BenchText, SaysOnWhatItWasMeasured) {
  const std::string text = BenchmarkText(MadeUp());
  EXPECT_THAT(text, HasSubstr("xcomposer 1.2.3 (abcdef012345-dirty) on here: a processor, avx2 "
                              "kernels, 2 threads; devices cpu\n"));
  EXPECT_THAT(text, HasSubstr("2-vl-7b, /models/vl: 8.67 billion parameters, bf16, 17.3 GB, "
                              "keys and values in fp32\n"));
  BenchmarkReport small = MadeUp();
  small.model.parameters = 2905088;
  EXPECT_THAT(BenchmarkText(small), HasSubstr(": 2.91 million parameters"));
  EXPECT_THAT(text, HasSubstr("limit memory read: 33.0 [32.0-34.0] GB/s (a loop)\n"));
  EXPECT_THAT(text, HasSubstr("limit fp32 fma: 371 [370-372] GOP/s (another)\n"));
  EXPECT_THAT(text, HasSubstr("\nwarning: something is odd\n"));
  EXPECT_THAT(text, HasSubstr("foreign CPU 0.5 % in all, kept by the host 0.0 %"));
}

TEST(BenchText, HasALineForEachFigure) {
  const std::string text = BenchmarkText(MadeUp());
  EXPECT_THAT(text, ::testing::ContainsRegex("\nload  +200 \\[100-500\\] ms +87.0 \\[35.0-170\\] "
                                             "GB/s +\\?\n"));
  EXPECT_THAT(text, ::testing::ContainsRegex(
                        "\ndecode 128 +31 +15.5 s +2.00 +29.4 GB/s +89.1 % of memory read, "
                        "7.90 % of fp32 fma +0.2 %\n"));
}

TEST(BenchText, ARateOfOperationsIsShownWhereTheyAreTheLimit) {
  BenchmarkReport report = MadeUp();
  report.figures[1].bound = "fp32 fma";
  EXPECT_THAT(BenchmarkText(report),
              ::testing::ContainsRegex("29.4 GOP/s +7.90 % of fp32 fma, 89.1 % of"));
}

TEST(BenchText, WhatIsNotKnownIsLeftOut) {
  BenchmarkReport report = MadeUp();
  report.commit.clear();
  report.limits.clear();
  report.random_weights = true;
  report.foreign_cpu.reset();
  report.figures[1].shares.clear();
  report.figures[1].bound.clear();
  const std::string text = BenchmarkText(report);
  EXPECT_THAT(text, HasSubstr("xcomposer 1.2.3 on here"));
  EXPECT_THAT(text, HasSubstr("2-vl-7b, random weights: "));
  EXPECT_THAT(text, Not(HasSubstr("limit ")));
  EXPECT_THAT(text, HasSubstr("foreign CPU ? in all"));
}

TEST(BenchJson, HasEveryFigureInBaseUnits) {
  const nlohmann::json json = ToJson(MadeUp());
  EXPECT_EQ(json["version"], "1.2.3");
  EXPECT_EQ(json["machine"]["kernels"], "avx2");
  EXPECT_EQ(json["model"]["weight_bytes"], 17333676032);
  EXPECT_EQ(json["limits"][1]["rate"]["max"], 372e9);
  const nlohmann::json& decode = json["figures"][1];
  EXPECT_EQ(decode["tokens_per_s"]["median"], 2);
  EXPECT_EQ(decode["seconds"]["runs"], 1);
  EXPECT_EQ(decode["shares"][1]["limit"], "memory read");
  EXPECT_EQ(decode["shares"][1]["percent"]["median"], 89.1);
  EXPECT_EQ(decode["foreign_cpu_percent"], 0.25);
  EXPECT_TRUE(decode["stolen_cpu_percent"].is_null());
  const nlohmann::json& load = json["figures"][0];
  EXPECT_TRUE(load["bound"].is_null());
  EXPECT_FALSE(load.contains("tokens_per_s"));
  EXPECT_FALSE(load.contains("operations_per_s"));
}

TEST(TokenCounts, AreNumbersWithCommasBetween) {
  EXPECT_THAT(ParseTokenCounts("--x", "128"), ElementsAre(128));
  EXPECT_THAT(ParseTokenCounts("--x", "1,1048576,3"), ElementsAre(1, 1048576, 3));
  EXPECT_THAT(ParseTokenCounts("--x", "none"), IsEmpty());
}

TEST(TokenCounts, AnythingElseIsRefusedByName) {
  for (const char* text : {"", ",", "1,", ",1", "0", "-1", "1048577", "1.5", "1 ,2", "0x10",
                           "none,1", "99999999999999999999"}) {
    try {
      ParseTokenCounts("--prompt-tokens", text);
      ADD_FAILURE() << "'" << text << "' was taken";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kUsage) << text;
      EXPECT_THAT(error.what(), HasSubstr("--prompt-tokens: found '")) << text;
    }
  }
}

}  // namespace
}  // namespace xcomposer::cli
