// generate and chat with a model: the small one of the project, and the reference's where it is
// there.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <tuple>

#include "cli/program.h"

namespace xcomposer::testing {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

const std::string kDemo = XCOMPOSER_SOURCE_DIR "/demo/checkpoint";
const std::string kGolden = XCOMPOSER_SHARED_DIR "/data/goldens/2-vl-7b/model";
const std::string kPicture = XCOMPOSER_SOURCE_DIR "/demo/pictures/fashion-00000.png";

class DemoModel : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!XCOMPOSER_HAVE_TEXT || !XCOMPOSER_HAVE_PICTURES) {
      GTEST_SKIP() << "this build has no tokenizer or no picture decoder";
    }
  }
};

TEST_F(DemoModel, ShowsWhereEveryPartIs) {
  const ProgramOutput run =
      RunProgram({"generate", "--model", kDemo, "--devices", "cpu,cpu", "--image", kPicture,
                  "--prompt", "What is this?", "--greedy", "--show-placement"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_THAT(run.out, HasSubstr("rank 0, cpu: vit, vision_proj, model.tok_embeddings"));
  EXPECT_THAT(run.out, HasSubstr("model.norm, output\n"));
}

TEST_F(DemoModel, AnswersAboutAPicture) {
  const std::vector<std::string> arguments = {
      "generate", "--model",       kDemo,      "--image",          kPicture,
      "--prompt", "What is this?", "--greedy", "--max-new-tokens", "16"};
  const ProgramOutput run = RunProgram(arguments);
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_THAT(run.out, Not(IsEmpty()));
  EXPECT_THAT(run.err, HasSubstr("tokens/s"));

  std::vector<std::string> as_json = arguments;
  as_json.insert(as_json.end(), {"--json", "--seed", "18446744073709551615"});
  const json result = RunProgram(as_json).Json();
  EXPECT_EQ(result["text"].get<std::string>() + "\n", run.out);
  EXPECT_EQ(result["seed"], 18446744073709551615u);
  EXPECT_GT(result["image_tokens"], 0);
  EXPECT_GT(result["prompt_tokens"], result["image_tokens"]);
  EXPECT_EQ(result["prompt_truncated"], 0);
  const json& timings = result["timings"];
  for (const char* time :
       {"load_s", "image_s", "prefill_s", "decode_s", "tokens_per_s", "step_s"}) {
    EXPECT_TRUE(timings[time].is_number()) << time;
  }
  EXPECT_GT(timings["step_s"], 0);
  EXPECT_LE(timings["step_s"], timings["decode_s"]);
  const json& load = timings["load"];
  EXPECT_GT(load["weights_s"], 0);
  EXPECT_LE(load["device_s"].get<double>() + load["weights_s"].get<double>() +
                load["warm_up_s"].get<double>(),
            timings["load_s"].get<double>());
  EXPECT_GT(load["weight_bytes"], 0);
  EXPECT_EQ(result["placement"][0]["device"], "cpu");
}

TEST_F(DemoModel, ChatEndsWhenItIsToldTo) {
  ProgramInput input;
  input.text = "Hello\n";
  input.terminate_at_first_output = true;
  const ProgramOutput run =
      RunProgram({"chat", "--model", kDemo, "--greedy", "--max-new-tokens", "4"}, input);
  EXPECT_EQ(run.exit_code, 130) << run.err;
}

TEST_F(DemoModel, APromptThatIsCutIsSaidWhateverElseIsSilent) {
  std::string words;
  for (int i = 0; i < 1600; ++i) words += "a word ";
  const std::string picture = kPicture;  // prompts of text alone are not cut
  const std::vector<std::string> generate = {
      "generate", "--model",          kDemo, "--image", picture, "--prompt", words,
      "--greedy", "--max-new-tokens", "2",   "--quiet"};
  const ProgramOutput one = RunProgram(generate);
  EXPECT_EQ(one.exit_code, 0);
  EXPECT_THAT(one.err, HasSubstr("rows were cut off"));
  const TemporaryFolder folder;
  const std::string list = folder.Write(
      "requests.json", json({{{"query", "<ImageHere>" + words}, {"images", {picture}}}}).dump());
  EXPECT_THAT(RunProgram({"generate", "--model", kDemo, "--request", list, "--max-new-tokens", "2",
                          "--quiet"})
                  .err,
              HasSubstr("rows were cut off"));
  const std::string one_request = folder.Write(
      "request.json", json({{"query", "<ImageHere>" + words}, {"images", {picture}}}).dump());
  EXPECT_THAT(RunProgram({"trace", "--model", kDemo, "--request", one_request, "--taps", "logits",
                          "--out", folder / "taps", "--quiet"})
                  .err,
              HasSubstr("rows were cut off"));
  ProgramInput input;
  input.text = words + "\n";
  const ProgramOutput chat = RunProgram({"chat", "--model", kDemo, "--image", picture, "--greedy",
                                         "--max-new-tokens", "2", "--quiet"},
                                        input);
  EXPECT_THAT(chat.err, AllOf(HasSubstr("rows were cut off"), HasSubstr("/reset begins anew")));
}

TEST_F(DemoModel, ChatSaysWhenAnAnswerIsCutOff) {
  ProgramInput input;
  input.text = "Hello\n";
  const std::vector<std::string> whole = {"chat", "--model", kDemo, "--greedy", "--quiet"};
  EXPECT_THAT(RunProgram(whole, input).err, Not(HasSubstr("cut off")));
  std::vector<std::string> part = whole;
  part.insert(part.end(), {"--max-new-tokens", "1"});
  EXPECT_THAT(RunProgram(part, input).err, HasSubstr("cut off after 1 tokens"));
}

TEST_F(DemoModel, ChatSaysWhenAnAnswerTookTooLong) {
  ProgramInput input;
  input.text = "Hello\n";
  const ProgramOutput run =
      RunProgram({"chat", "--model", kDemo, "--greedy", "--deadline", "0.000001"}, input);
  EXPECT_EQ(run.exit_code, 0);
  EXPECT_THAT(run.err, HasSubstr("cut off after 0 tokens (--deadline)"));
}

TEST_F(DemoModel, ClosedStreamsAreNotTakenForFiles) {
  ProgramInput input;
  input.closed = {0};
  const ProgramOutput chat = RunProgram({"chat", "--model", kDemo}, input);
  EXPECT_EQ(chat.exit_code, 0) << chat.err;
  EXPECT_THAT(chat.out, IsEmpty());

  // A warning, with nowhere to go, does not end up among the tensors.
  const TemporaryFolder folder;
  const std::string request = folder.Write("request.json", R"({"query": "Hello"})");
  const auto trace = [&](const std::string& name, const std::vector<int>& closed) {
    ProgramInput without;
    without.closed = closed;
    const ProgramOutput run =
        RunProgram({"trace", "--model", kDemo, "--request", request, "--out", folder / name,
                    "--greedy", "--max-new-tokens", "2", "--log-level", "trace"},
                   without);
    EXPECT_EQ(run.exit_code, 0);
    std::ifstream file(folder / name, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  };
  const std::string whole = trace("whole.safetensors", {});
  EXPECT_GT(whole.size(), 1000u);
  EXPECT_EQ(trace("apart.safetensors", {0, 1, 2}) == whole, true);
}

TEST_F(DemoModel, PicturesOfAPromptAreLookedForInTheRoots) {
  const std::filesystem::path picture = kPicture;
  std::vector<std::string> arguments = {"generate",
                                        "--model",
                                        kDemo,
                                        "--prompt",
                                        "What?",
                                        "--image",
                                        picture.filename().string(),
                                        "--greedy",
                                        "--max-new-tokens",
                                        "1"};
  const ProgramOutput without = RunProgram(arguments);
  EXPECT_EQ(without.exit_code, 3);
  EXPECT_THAT(without.err, HasSubstr("not found in: .; --image-root adds a folder"));
  arguments.insert(arguments.end(), {"--image-root", picture.parent_path().string()});
  EXPECT_EQ(RunProgram(arguments).exit_code, 0);
  const ProgramOutput chat = RunProgram({"chat", "--model", kDemo, "--image", "none.png"});
  EXPECT_THAT(chat.err, AllOf(HasSubstr("not found"), Not(HasSubstr("--image-root"))));
}

TEST_F(DemoModel, TheSizeOfAPrefillStepCanBeChosen) {
  const auto planned = [](const std::string& rows) {
    return RunProgram({"generate", "--model", kDemo, "--prompt", "Hello", "--greedy", "--json",
                       "--max-new-tokens", "1", "--show-placement", "--prefill-chunk", rows})
        .Json()["placement_report"]
        .dump();
  };
  EXPECT_NE(planned("64"), planned("1024"));
}

TEST_F(DemoModel, TheSizeOfTheCacheCanBeChosen) {
  const std::vector<std::string> arguments = {
      "generate", "--model", kDemo, "--prompt", "Hello", "--greedy", "--max-new-tokens", "100"};
  std::vector<std::string> small = arguments;
  small.insert(small.end(), {"--kv-tokens", "32"});
  const ProgramOutput run = RunProgram(small);
  EXPECT_EQ(run.exit_code, 5);
  EXPECT_THAT(run.err, HasSubstr("with more positions (kv_tokens)"));
  small.back() = "4096";
  EXPECT_EQ(RunProgram(small).exit_code, 0);
}

TEST_F(DemoModel, TextsMustBeUtf8) {
  for (const char* command : {"generate", "chat"}) {
    std::vector<std::string> arguments = {command, "--model", kDemo, "--system", "\xff"};
    if (std::string(command) == "generate") {
      arguments.insert(arguments.end(), {"--prompt", "a"});
    }
    const ProgramOutput run = RunProgram(arguments);
    EXPECT_EQ(run.exit_code, 3) << command;
    EXPECT_THAT(run.err, HasSubstr("--system"));
  }
}

TEST_F(DemoModel, QuietSaysNothingButTheAnswer) {
  const ProgramOutput run = RunProgram({"generate", "--model", kDemo, "--prompt", "Hello",
                                        "--greedy", "--max-new-tokens", "4", "--quiet"});
  EXPECT_EQ(run.exit_code, 0);
  EXPECT_THAT(run.err, IsEmpty());
}

TEST_F(DemoModel, AFailedRequestOfAListStandsAlone) {
  const TemporaryFolder folder;
  const std::string file = folder.Write("list.json", R"([
      {"query": "Hello", "id": "one", "generate": {"do_sample": false, "max_new_tokens": 4}},
      {"query": "<ImageHere>Hello", "images": ["broken.png"]},
      {"query": "Hello", "generate": {"do_sample": true, "num_beams": 2}},
      {"query": "Hello", "id": "four", "generate": {"do_sample": false, "max_new_tokens": 4}}])");
  folder.Write("broken.png", "no picture");
  const ProgramOutput run = RunProgram({"generate", "--model", kDemo, "--request", file, "--json"});
  EXPECT_EQ(run.exit_code, 3) << run.err;
  const json list = run.Json();
  ASSERT_EQ(list.size(), 4u);
  EXPECT_EQ(list[0]["id"], "one");
  EXPECT_EQ(list[1]["error"]["kind"], "image");
  EXPECT_EQ(list[2]["error"]["kind"], "request");
  EXPECT_EQ(list[3]["id"], "four");
  EXPECT_EQ(list[0]["output_ids"], list[3]["output_ids"]);
}

TEST_F(DemoModel, AFlagWinsOverTheRequest) {
  const TemporaryFolder folder;
  const std::string file = folder.Write(
      "one.json", R"({"query": "Hello", "generate": {"do_sample": false, "max_new_tokens": 9,
                                   "eos_token_id": []}})");
  const ProgramOutput run = RunProgram(
      {"generate", "--model", kDemo, "--request", file, "--json", "--max-new-tokens", "2"});
  ASSERT_EQ(run.exit_code, 0) << run.out;
  EXPECT_EQ(run.Json()["output_ids"].size(), 2u);
  EXPECT_EQ(run.Json()["finish_reason"], "length");
}

TEST_F(DemoModel, TheSameSeedGivesTheSameAnswer) {
  const std::vector<std::string> arguments = {
      "generate", "--model",       kDemo, "--prompt",         "Hello", "--json", "--seed",
      "7",        "--temperature", "3",   "--max-new-tokens", "12"};
  EXPECT_EQ(RunProgram(arguments).Json()["output_ids"], RunProgram(arguments).Json()["output_ids"]);
}

TEST_F(DemoModel, ADeviceThatIsNotThereIsFive) {
  const ProgramOutput run =
      RunProgram({"generate", "--model", kDemo, "--prompt", "a", "--devices", "cuda:99", "--json"});
  EXPECT_EQ(run.exit_code, 5) << run.out << run.err;
}

TEST_F(DemoModel, ChatTakesItsTurnsFromAPipe) {
  ProgramInput input;
  input.text = "/help\n/image " + kPicture +
               "\nWhat is this?\nAnd now?\n/reset\nWhat is this?\n/exit\nnever\n";
  const ProgramOutput run =
      RunProgram({"chat", "--model", kDemo, "--greedy", "--max-new-tokens", "8"}, input);
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_THAT(run.out, HasSubstr("/reset"));
  EXPECT_THAT(run.err, IsEmpty());
}

TEST_F(DemoModel, ChatGoesOnAfterAnError) {
  ProgramInput input;
  input.text = "/nonsense\n/image gone.png\nHello\n";
  const ProgramOutput run =
      RunProgram({"chat", "--model", kDemo, "--greedy", "--max-new-tokens", "4"}, input);
  EXPECT_EQ(run.exit_code, 2);
  EXPECT_THAT(run.err, HasSubstr("/nonsense"));
  EXPECT_THAT(run.err, HasSubstr("gone.png"));
  EXPECT_THAT(run.out, Not(IsEmpty()));
}

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

TEST(Interrupt, EndsAnAnswerWithWhatThereIs) {
  if (!std::filesystem::exists(kGolden) || !XCOMPOSER_HAVE_TEXT) {
    GTEST_SKIP() << "the reference goldens are not there, or this build has no sentencepiece";
  }
  ProgramInput input;
  input.interrupt_at_first_output = true;
  const ProgramOutput run =
      RunProgram({"generate", "--model", kGolden, "--prompt", "Tell me a story.",
                  "--max-new-tokens", "15000", "--seed", "1"},
                 input);
  EXPECT_EQ(run.exit_code, 130) << run.err;
  EXPECT_THAT(run.err, HasSubstr("cancelled"));
}

TEST(Minimal, TokenIdsNeedNoTokenizer) {
  const TemporaryFolder folder;
  const std::string file = folder.Write(
      "ids.json",
      R"({"token_ids": [1, 5, 6, 7], "generate": {"do_sample": false, "max_new_tokens": 3}})");
  const ProgramOutput run = RunProgram({"generate", "--model", kDemo, "--request", file, "--json"});
  ASSERT_EQ(run.exit_code, 0) << run.out << run.err;
  EXPECT_GE(run.Json()["output_ids"].size(), 1u);
}

}  // namespace
}  // namespace xcomposer::testing
