// generate and chat with a model: the small one of the project, and the reference's where it is
// there.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <tuple>

#include "cli/demo_model.h"
#include "cli/program.h"

namespace xcomposer::testing {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

const std::string kGolden = XCOMPOSER_SHARED_DIR "/data/goldens/2-vl-7b/model";

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
