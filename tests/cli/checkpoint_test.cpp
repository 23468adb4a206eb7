// Checkpoints in every format of weights: what inspect says of them, what convert and quantize
// make, and what they answer.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <tuple>

#include "cli/demo_model.h"
#include "cli/program.h"

namespace xcomposer::testing {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

TEST_F(DemoModel, InspectFindsItComplete) {
  const ProgramOutput run = RunProgram({"inspect", "--model", kDemo, "--json"});
  EXPECT_EQ(run.exit_code, 0) << run.out;
  EXPECT_EQ(run.Json()["ok"], true);
  EXPECT_EQ(run.Json()["kind"], "2-vl-7b");
  EXPECT_THAT(RunProgram({"inspect", "--model", kDemo}).out, HasSubstr("complete"));
}

TEST_F(DemoModel, InspectSaysWhatIsWrong) {
  const TemporaryFolder folder;
  std::filesystem::copy(kDemo + "/config.json", folder / "config.json");
  const std::string header = R"({"odd": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}})";
  folder.Write("model.safetensors",
               std::string(1, static_cast<char>(header.size())) + std::string(7, '\0') + header);
  const ProgramOutput run = RunProgram({"inspect", "--model", folder / "", "--kind", "2-vl-7b"});
  EXPECT_EQ(run.exit_code, 4);
  EXPECT_THAT(run.out, HasSubstr("NOT usable"));
  EXPECT_THAT(run.err, AllOf(HasSubstr("checkpoint error: "), HasSubstr(" 1 unexpected, ")));
}

TEST_F(DemoModel, AConvertedCheckpointAnswersTheSame) {
  const TemporaryFolder folder;
  const ProgramOutput converted = RunProgram({"convert", "--model", kDemo, "--out", folder / "copy",
                                              "--max-shard-bytes", "1000000", "--json"});
  ASSERT_EQ(converted.exit_code, 0) << converted.out;
  EXPECT_GT(converted.Json()["files"].size(), 1u);
  std::vector<json> ids;
  for (const std::string& model : {kDemo, folder / "copy"}) {
    ids.push_back(RunProgram({"generate", "--model", model, "--prompt", "Hello", "--greedy",
                              "--json", "--max-new-tokens", "6"})
                      .Json()["output_ids"]);
  }
  EXPECT_EQ(ids[0], ids[1]);
}

// Rounded at load or read from what `quantize` wrote: the same answer, from fewer bytes.
TEST_F(DemoModel, AQuantisedCheckpointAnswersAsTheOneRoundedAtLoad) {
  for (const std::string weights : {"int8", "int4"}) {
    const TemporaryFolder folder;
    const ProgramOutput quantised = RunProgram(
        {"quantize", "--model", kDemo, "--out", folder / "small", "--weights", weights, "--json"});
    ASSERT_EQ(quantised.exit_code, 0) << quantised.out << quantised.err;
    EXPECT_EQ(quantised.Json()["linears"], 5 * 3 + 1);
    EXPECT_LT(quantised.Json()["bytes"], quantised.Json()["bytes_before"]);
    const ProgramOutput inspected = RunProgram({"inspect", "--model", folder / "small", "--json"});
    EXPECT_EQ(inspected.exit_code, 0) << inspected.out;
    EXPECT_EQ(inspected.Json()["quantization"],
              weights == "int8" ? "xcomposer 8 bit, groups of 128, output 8 bit, groups of 128"
                                : "xcomposer 4 bit, groups of 32, output 8 bit, groups of 128");
    EXPECT_EQ(inspected.Json()["kind"], "2-vl-7b");
    const auto answer = [](const std::string& model, std::vector<std::string> more) {
      std::vector<std::string> arguments = {
          "generate", "--model",          model, "--image", kPicture, "--prompt", "What is this?",
          "--greedy", "--max-new-tokens", "8",   "--json"};
      arguments.insert(arguments.end(), more.begin(), more.end());
      const ProgramOutput run = RunProgram(arguments);
      EXPECT_EQ(run.exit_code, 0) << run.out << run.err;
      return run.Json()["output_ids"];
    };
    EXPECT_EQ(answer(folder / "small", {}), answer(kDemo, {"--weights", weights}));
    const ProgramOutput twice = RunProgram(
        {"generate", "--model", folder / "small", "--prompt", "a", "--weights", "int8", "--json"});
    EXPECT_EQ(twice.exit_code, 2);
    EXPECT_THAT(twice.out, HasSubstr("quantised already"));
    const ProgramOutput packed = RunProgram(
        {"generate", "--model", folder / "small", "--prompt", "a", "--weights", "bf12", "--json"});
    EXPECT_EQ(packed.exit_code, 2);
    EXPECT_THAT(packed.out, HasSubstr("quantised already"));
  }
}

TEST_F(DemoModel, AnswersWithWeightsIn12BitsAsWithThoseStored) {
  const auto run = [](std::vector<std::string> more) {
    std::vector<std::string> arguments = {
        "generate", "--model",          kDemo, "--image", kPicture, "--prompt", "What is this?",
        "--greedy", "--max-new-tokens", "8",   "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return RunProgram(arguments);
  };
  const ProgramOutput packed = run({"--weights", "bf12", "--log-level", "info"});
  ASSERT_EQ(packed.exit_code, 0) << packed.out << packed.err;
  EXPECT_EQ(packed.Json()["output_ids"], run({}).Json()["output_ids"]);
  EXPECT_THAT(packed.err, HasSubstr("16 matrices are kept in 12 bits a number (bf12)"));
  EXPECT_THAT(packed.err, Not(HasSubstr("stay bfloat16")));
  EXPECT_EQ(run({"--weights", "bf12", "--devices", "cpu,cpu"}).Json()["output_ids"],
            packed.Json()["output_ids"]);
  const ProgramOutput other = run({"--weights", "bf12", "--dtype", "fp16"});
  EXPECT_EQ(other.exit_code, 2);
  EXPECT_THAT(other.Json()["error"]["message"].get<std::string>(),
              AllOf(HasSubstr("the weights are fp16"), HasSubstr("bf12 packs bfloat16 only"),
                    HasSubstr("--dtype bf16")));
}

TEST_F(DemoModel, MatricesIn12BitsAreWrittenAndReadBack) {
  const TemporaryFolder folder;
  const ProgramOutput packed = RunProgram(
      {"convert", "--model", kDemo, "--out", folder / "small", "--matrices", "bf12", "--json"});
  ASSERT_EQ(packed.exit_code, 0) << packed.out << packed.err;
  EXPECT_EQ(packed.Json()["matrices"], "bf12");
  EXPECT_EQ(packed.Json()["packed"], 16);
  EXPECT_EQ(packed.Json()["kept"], 0);
  const ProgramOutput told = RunProgram({"convert", "--model", kDemo, "--out", folder / "small",
                                         "--matrices", "bf12", "--overwrite", "--threads", "1"});
  ASSERT_EQ(told.exit_code, 0) << told.err;
  EXPECT_THAT(told.out, HasSubstr("16 matrices in 12 bits a number\n"));
  const auto answer = [](const std::string& model) {
    const ProgramOutput run =
        RunProgram({"generate", "--model", model, "--image", kPicture, "--prompt", "What is this?",
                    "--greedy", "--max-new-tokens", "8", "--json"});
    EXPECT_EQ(run.exit_code, 0) << run.out << run.err;
    return run.Json()["output_ids"];
  };
  EXPECT_EQ(answer(folder / "small"), answer(kDemo));
  const ProgramOutput bench =
      RunProgram({"bench", "--model", folder / "small", "--prompt-tokens", "none", "--context", "5",
                  "--new-tokens", "2", "--repeat", "1", "--no-picture", "--json"});
  EXPECT_EQ(bench.Json()["model"]["weights"], "bf12") << bench.out;
  const ProgramOutput back = RunProgram({"convert", "--model", folder / "small", "--out",
                                         folder / "back", "--matrices", "bf16", "--quiet"});
  ASSERT_EQ(back.exit_code, 0) << back.err;
  EXPECT_THAT(back.out, HasSubstr("16 matrices are bfloat16 again"));
  const ProgramOutput nothing = RunProgram(
      {"convert", "--model", kDemo, "--out", folder / "same", "--matrices", "bf16", "--quiet"});
  EXPECT_EQ(nothing.exit_code, 0) << nothing.err;
  EXPECT_THAT(nothing.out, HasSubstr("no matrix was in 12 bits"));
  const auto tensors = [](const std::string& model) {
    return RunProgram({"inspect", "--model", model, "--json"}).Json()["tensors"].size();
  };
  EXPECT_EQ(tensors(folder / "back"), tensors(kDemo));
  EXPECT_EQ(tensors(folder / "small"), tensors(kDemo) + 2 * 16);

  const auto planned = [&](const std::string& cluster) {
    const ProgramOutput plan = RunProgram(
        {"plan", "--model", folder / "small", "--cluster",
         std::string(XCOMPOSER_SOURCE_DIR "/configs/clusters/") + cluster + ".json", "--json"});
    EXPECT_EQ(plan.exit_code, 0) << plan.out;
    EXPECT_THAT(plan.out, Not(HasSubstr("refuse to load")));
    return plan.Json()["workload"]["weights"];
  };
  EXPECT_EQ(planned("cpu-only"), "bf12");
  EXPECT_EQ(planned("one-40gb"), "bf16") << "no CUDA kernel reads 12 bits: they are unpacked";
}

TEST_F(DemoModel, GroupsThatDoNotHoldBlocksAreWrongUsage) {
  const TemporaryFolder folder;
  for (const auto& [weights, size, expected] :
       {std::tuple{"int4", "40", "multiple of 32"}, {"int8", "64", "multiple of 128"}}) {
    const ProgramOutput run = RunProgram({"quantize", "--model", kDemo, "--out", folder / "small",
                                          "--weights", weights, "--group-size", size, "--json"});
    EXPECT_EQ(run.exit_code, 2) << run.out;
    EXPECT_THAT(run.Json()["error"]["message"].get<std::string>(),
                AllOf(HasSubstr("the group size is " + std::string(size)), HasSubstr(expected)));
    EXPECT_FALSE(std::filesystem::exists(folder / "small"));
  }
  const ProgramOutput whole = RunProgram({"quantize", "--model", kDemo, "--out", folder / "small",
                                          "--weights", "int4", "--group-size", "384", "--json"});
  EXPECT_EQ(whole.exit_code, 0) << whole.out;
  EXPECT_EQ(RunProgram({"inspect", "--model", folder / "small", "--json"}).Json()["quantization"],
            "xcomposer 4 bit, groups of 384, output 8 bit, groups of 128");
}

TEST_F(DemoModel, AnswersWithKeysAndValuesInInt8) {
  const auto answer = [](std::vector<std::string> more) {
    std::vector<std::string> arguments = {
        "generate",         "--model",       kDemo,      "--image",          kPicture,
        "--prompt",         "What is this?", "--greedy", "--max-new-tokens", "8",
        "--show-placement", "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const ProgramOutput run = RunProgram(arguments);
    EXPECT_EQ(run.exit_code, 0) << run.out << run.err;
    return run.Json();
  };
  const json one = answer({"--kv", "int8"});
  const json plain = answer({});
  EXPECT_EQ(one["text"], plain["text"]);
  // Of as many positions: heads of 64 numbers in 256 bytes, or in 68.
  const auto kept = [](const json& result) {
    return result["placement_report"]["stages"][0]["measured"]["kv"].get<int64_t>();
  };
  EXPECT_EQ(kept(one) * 256, kept(plain) * 68);
  EXPECT_EQ(one["output_ids"], answer({"--kv", "int8", "--devices", "cpu,cpu"})["output_ids"]);
}

TEST_F(DemoModel, AnswersWithActivationsInBfloat16) {
  const auto answer = [](const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {
        "generate",      "--model",  kDemo,    "--image",          kPicture, "--prompt",
        "What is this?", "--greedy", "--json", "--max-new-tokens", "8"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const ProgramOutput run = RunProgram(arguments);
    EXPECT_EQ(run.exit_code, 0) << run.out << run.err;
    return run.Json();
  };
  const json rounded = answer({"--activations", "bf16"});
  EXPECT_EQ(rounded["text"], answer({})["text"]);
  EXPECT_EQ(rounded["output_ids"],
            answer({"--activations", "bf16", "--devices", "cpu,cpu"})["output_ids"]);
}

}  // namespace
}  // namespace xcomposer::testing
