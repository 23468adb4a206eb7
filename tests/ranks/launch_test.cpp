// The command line over several processes, started as users start it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>

#include "ranks/process.h"
#include "support/held_port.h"

namespace xcomposer {
namespace {

using namespace testing;  // processes
using nlohmann::json;
using std::chrono::milliseconds;
using ::testing::HasSubstr;
namespace fs = std::filesystem;

constexpr milliseconds kPatience{60'000};

const std::string kModel = XCOMPOSER_SOURCE_DIR "/demo/checkpoint";

/// The bytes of a file.
std::string Content(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

/// A folder for the files of one test.
class Launch : public ::testing::Test {
 protected:
  Launch() {
    std::string pattern = (fs::temp_directory_path() / "xcomposer_ranks_XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
    folder_ = pattern;
  }
  ~Launch() override {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }

  /// A request that is answered without end for `tokens` ids.
  std::string RequestFile(int tokens) const {
    const json request = {{"token_ids", {1, 40, 41, 42, 43, 44, 45, 46}},
                          {"generate",
                           {{"do_sample", true},
                            {"temperature", 100.0},
                            {"top_k", 0},
                            {"top_p", 1.0},
                            {"seed", 3},
                            {"eos_token_id", json::array()},
                            {"max_new_tokens", tokens}}}};
    std::ofstream(folder_ / "request.json") << request;
    return folder_ / "request.json";
  }

  std::vector<std::string> Generate(const std::vector<std::string>& more, int tokens = 24) const {
    std::vector<std::string> arguments = {
        XCOMPOSER_PROGRAM,   "generate", "--model", kModel,      "--request",
        RequestFile(tokens), "--json",   "--quiet", "--threads", "1"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }

  /// The same command on every rank, which knows its number from flags or from variables. What
  /// they print to standard error is in ErrorsOf.
  std::vector<Process> StartAll(
      int ranks, const std::vector<std::string>& arguments,
      const std::function<std::map<std::string, std::string>(int)>& variables = {}) {
    port_.emplace();
    const std::string place = "127.0.0.1:" + std::to_string(port_->number());
    std::vector<Process> processes;
    for (int rank = 0; rank < ranks; ++rank) {
      std::vector<std::string> all = arguments;
      all.insert(all.end(), {"--rendezvous", place});
      if (!variables) {
        all.insert(all.end(),
                   {"--rank", std::to_string(rank), "--world-size", std::to_string(ranks)});
      }
      fs::remove(ErrorFile(rank));
      processes.emplace_back(
          all, variables ? variables(rank) : std::map<std::string, std::string>(), ErrorFile(rank));
    }
    return processes;
  }

  std::string ErrorFile(int rank) const { return folder_ / ("errors" + std::to_string(rank)); }
  std::string ErrorsOf(int rank) const { return Content(ErrorFile(rank)); }

  /// What rank 0 prints when all end well; the others print nothing.
  json AnswerOf(std::vector<Process> processes) const {
    for (size_t rank = 0; rank < processes.size(); ++rank) {
      const auto code = processes[rank].Wait(kPatience);
      EXPECT_EQ(code, 0) << "rank " << rank << ": " << processes[rank].transcript()
                         << ErrorsOf(static_cast<int>(rank));
      if (rank > 0) {
        EXPECT_EQ(processes[rank].transcript(), "") << rank;
        EXPECT_EQ(ErrorsOf(static_cast<int>(rank)), "") << rank;
      }
    }
    return json::parse(processes[0].transcript(), nullptr, false);
  }

  json AnswerOfOne() const {
    Process alone(Generate({}));
    EXPECT_EQ(alone.Wait(kPatience), 0) << alone.transcript();
    return json::parse(alone.transcript());
  }

  fs::path folder_;
  std::optional<HeldPort> port_;  // of the last run
};

TEST_F(Launch, ByHandOverTwoAndThreeProcessesTheAnswerIsTheSame) {
  const json alone = AnswerOfOne();
  ASSERT_EQ(alone["output_ids"].size(), 24u);
  const json two = AnswerOf(StartAll(2, Generate({"--devices", "cpu,cpu"})));
  EXPECT_EQ(two["output_ids"], alone["output_ids"]);
  ASSERT_EQ(two["placement"].size(), 4u);
  EXPECT_EQ(two["placement"][1]["device"], "0:cpu");
  EXPECT_EQ(two["placement"][2]["device"], "1:cpu");
  const json three = AnswerOf(StartAll(3, Generate({"--devices", "0:cpu,1:cpu,1:cpu,2:cpu"})));
  EXPECT_EQ(three["output_ids"], alone["output_ids"]);
  EXPECT_EQ(three["placement"][2]["device"], "1:cpu");
}

TEST_F(Launch, TheLayersGoWhereThePlanSays) {
  // Five stages for three layers: the head gets one of its own, which an even split does not give.
  const std::string devices = "0:cpu,0:cpu,1:cpu,1:cpu,1:cpu";
  // What the engine makes room for: four sequences of full length, no picture larger than usual.
  std::ifstream config_file(kModel + "/config.json");
  const json config = json::parse(config_file);
  const std::string context = std::to_string(config["max_length"].get<int64_t>() + 1024);
  Process plan({XCOMPOSER_PROGRAM, "plan", "--model", kModel, "--devices", devices, "--sequences",
                "4", "--context", context, "--json"});
  ASSERT_EQ(plan.Wait(kPatience), 0) << plan.transcript();
  const json planned = json::parse(plan.transcript());
  const json answer = AnswerOf(StartAll(2, Generate({"--devices", devices})));
  ASSERT_EQ(answer["placement"].size(), 5u);
  EXPECT_EQ(answer["placement"][4]["modules"], json({"model.norm", "output"}));
  for (size_t stage = 0; stage < 5; ++stage) {
    const json& parts = planned["devices"][stage]["parts"];
    EXPECT_EQ(answer["placement"][stage]["modules"], parts) << stage;
  }
}

TEST_F(Launch, ListensOnTheAddressAndPortsThatAreGiven) {
  // 127.0.0.2 is loopback too, and nobody else's.
  const HeldPort port("127.0.0.2");
  const std::string place = "127.0.0.2:" + std::to_string(port.number());
  std::vector<Process> processes;
  for (const char* rank : {"0", "1"}) {
    processes.emplace_back(Generate({"--rank", rank, "--world-size", "2", "--rendezvous", place,
                                     "--bind-address", "127.0.0.2", "--log-level", "info"}));
  }
  for (Process& process : processes) {
    EXPECT_EQ(process.Wait(kPatience), 0) << process.transcript();
    EXPECT_THAT(process.transcript(), HasSubstr("listens on 127.0.0.2"));
  }
  Process all(Generate({"--rank", "0", "--world-size", "2", "--rendezvous", "127.0.0.1:29501",
                        "--bind-address", "0.0.0.0"}));
  EXPECT_EQ(all.Wait(kPatience), 2) << all.transcript();
  Process every(Generate({"--rank", "0", "--world-size", "2", "--rendezvous", "127.0.0.1:29501",
                          "--bind-address", "0.0.0.0"}),
                {{"XCOMPOSER_SECRET", "a secret of sixteen bytes"}});
  EXPECT_EQ(every.Wait(kPatience), 2) << every.transcript();
  EXPECT_THAT(every.transcript(), HasSubstr("stands for every address"));
}

TEST_F(Launch, ADeviceMapMayNameTheRanks) {
  json map = {{"vit", "0:cpu"},
              {"vision_proj", "0:cpu"},
              {"plora_glb_GN", "0:cpu"},
              {"plora_sub_GN", "0:cpu"},
              {"model.tok_embeddings", "0:cpu"},
              {"model.layers", "1:cpu"},
              {"model.norm", "1:cpu"},
              {"output", "1:cpu"}};
  std::ifstream config(kModel + "/config.json");
  const std::string map_file = folder_ / "map.json";
  const json parsed = json::parse(config);
  if (parsed.contains("img_size") && !parsed["img_size"].is_null()) {
    map.erase("plora_glb_GN");
    map.erase("plora_sub_GN");
  }
  std::ofstream(map_file) << map;
  const json answer = AnswerOf(StartAll(2, Generate({"--device-map", map_file})));
  EXPECT_EQ(answer["output_ids"], AnswerOfOne()["output_ids"]);
  EXPECT_EQ(answer["placement"][1]["device"], "1:cpu");
}

TEST_F(Launch, TheVariablesOfTorchrunAndSrunAreRead) {
  const json expected = AnswerOfOne()["output_ids"];
  const auto torchrun = [](int rank) {
    return std::map<std::string, std::string>{
        {"RANK", std::to_string(rank)}, {"WORLD_SIZE", "2"}, {"LOCAL_RANK", std::to_string(rank)}};
  };
  EXPECT_EQ(AnswerOf(StartAll(2, Generate({}), torchrun))["output_ids"], expected);
  const auto srun = [](int rank) {
    return std::map<std::string, std::string>{{"SLURM_PROCID", std::to_string(rank)},
                                              {"SLURM_NTASKS", "2"},
                                              {"SLURM_LOCALID", std::to_string(rank)}};
  };
  EXPECT_EQ(AnswerOf(StartAll(2, Generate({}), srun))["output_ids"], expected);
}

TEST_F(Launch, ThePlacementIsShownWithWhatTheStagesHereReallyHold) {
  const std::vector<std::string> flags = {"--devices", "cpu,cpu", "--show-placement"};
  const json report = AnswerOf(StartAll(2, Generate(flags)))["placement_report"];
  ASSERT_EQ(report["stages"].size(), 4u);
  for (int stage = 0; stage < 4; ++stage) {
    const json& shown = report["stages"][static_cast<size_t>(stage)];
    EXPECT_EQ(shown["rank"], stage / 2);
    EXPECT_EQ(shown.contains("measured"), stage < 2) << shown;
    if (stage >= 2) continue;
    // Weights are bytes of files: the plan knows them exactly.
    EXPECT_EQ(shown["measured"]["weights"], shown["planned"]["weights"]) << shown;
    EXPECT_GT(shown["measured"]["activations"], 0);
  }
  EXPECT_EQ(report["join"], json({{"picture_device", "cpu"},
                                  {"text_device", "cpu"},
                                  {"type", "float32"},
                                  {"width", 128},
                                  {"joins", 0},  // the request has no picture
                                  {"rows", 0}}));
}

TEST_F(Launch, ThePlacementTellsHowManyRowsOfPicturesWereJoinedToText) {
  Process process({XCOMPOSER_PROGRAM, "generate", "--model", kModel, "--prompt", "What is this?",
                   "--image", XCOMPOSER_SOURCE_DIR "/demo/pictures/number-2.png", "--json",
                   "--quiet", "--threads", "1", "--show-placement"},
                  {}, ErrorFile(0));
  ASSERT_EQ(process.Wait(kPatience), 0) << ErrorsOf(0);
  const json answer = json::parse(process.transcript());
  const json& join = answer["placement_report"]["join"];
  EXPECT_EQ(join["joins"], 1);
  EXPECT_EQ(join["rows"], 36);  // of 84 x 84 pixels, in patches of 14
  EXPECT_EQ(answer["image_tokens"], 36);
}

bool Found(const std::string& program) {
  return std::system((program + " > /dev/null 2>&1").c_str()) == 0;
}

/// The JSON line among what a launcher and its processes print.
json LineOf(const std::string& text) {
  const size_t begin = text.find("{\"");
  if (begin == std::string::npos) return json(text);
  return json::parse(text.substr(begin, text.find('\n', begin) - begin), nullptr, false);
}

TEST_F(Launch, Mpirun) {
  if (!Found("mpirun --version")) GTEST_SKIP() << "mpirun is not installed (openmpi-bin)";
  std::vector<std::string> arguments = {"mpirun", "--allow-run-as-root", "--oversubscribe", "-n",
                                        "3"};
  const HeldPort port;
  const std::vector<std::string> command =
      Generate({"--rendezvous", "127.0.0.1:" + std::to_string(port.number())});
  arguments.insert(arguments.end(), command.begin(), command.end());
  Process mpirun(arguments);
  EXPECT_EQ(mpirun.Wait(kPatience), 0) << mpirun.transcript();
  EXPECT_EQ(LineOf(mpirun.transcript())["output_ids"], AnswerOfOne()["output_ids"])
      << mpirun.transcript();
}

TEST_F(Launch, Torchrun) {
  const char* chosen = std::getenv("XCOMPOSER_PYTHON");
  const std::string python = chosen == nullptr ? "python3" : chosen;
  if (!Found(python + " -c 'import torch.distributed.run'")) {
    GTEST_SKIP() << python << " has no torch (XCOMPOSER_PYTHON names another)";
  }
  const HeldPort port;
  std::vector<std::string> arguments = {python,
                                        "-m",
                                        "torch.distributed.run",
                                        "--nproc-per-node=2",
                                        "--master-addr=127.0.0.1",
                                        "--master-port=" + std::to_string(port.number()),
                                        "--no-python"};
  const std::vector<std::string> command = Generate({});
  arguments.insert(arguments.end(), command.begin(), command.end());
  Process torchrun(arguments);
  EXPECT_EQ(torchrun.Wait(kPatience), 0) << torchrun.transcript();
  EXPECT_EQ(LineOf(torchrun.transcript())["output_ids"], AnswerOfOne()["output_ids"])
      << torchrun.transcript();
}

/// Runs that something happens to when their answer has begun.
class Answering : public Launch {
 protected:
  /// Starts a run of three, and does this to it. An answer may have ended first where the machine
  /// was busy with it: then once more.
  std::vector<Process> Disturbed(const std::function<void(std::vector<Process>&)>& disturb) {
    std::vector<std::string> arguments = Generate({}, 3500);
    std::erase(arguments, "--json");  // the answer is then printed as it grows
    for (int attempt = 0; attempt < 5; ++attempt) {
      std::vector<Process> processes = StartAll(3, arguments);
      EXPECT_TRUE(processes[0].HasPrinted(kPatience)) << ErrorsOf(0);
      disturb(processes);
      if (processes[0].Wait(kPatience) != 0) return processes;
    }
    throw std::runtime_error("five answers ended as if nothing had been");
  }
};

TEST_F(Answering, ALostRankIsExitCodeSixWithItsPlace) {
  auto processes = Disturbed([](auto& ranks) { ranks[2].Signal(SIGKILL); });
  for (const int rank : {0, 1}) {
    ASSERT_EQ(processes[static_cast<size_t>(rank)].Wait(kPatience), 6) << ErrorsOf(rank);
    EXPECT_THAT(ErrorsOf(rank), HasSubstr("rank 2 was lost"));
    EXPECT_THAT(ErrorsOf(rank), HasSubstr("it drove stage 2; step "));
  }
}

TEST_F(Answering, CtrlCEndsAllRanks) {
  for (const int signal : {SIGINT, SIGTERM}) {
    auto processes = Disturbed([signal](auto& ranks) {
      for (Process& process : ranks) process.Signal(signal);
    });
    for (const int rank : {0, 1, 2}) {
      EXPECT_EQ(processes[static_cast<size_t>(rank)].Wait(kPatience), 130) << ErrorsOf(rank);
    }
  }
}

TEST_F(Answering, ARankThatIsAskedToEndEndsTheRun) {
  auto processes = Disturbed([](auto& ranks) { ranks[1].Signal(SIGTERM); });
  EXPECT_EQ(processes[1].Wait(kPatience), 130) << ErrorsOf(1);
  EXPECT_EQ(processes[0].Wait(kPatience), 130) << ErrorsOf(0);
  EXPECT_THAT(ErrorsOf(0), HasSubstr("rank 1 was asked to end"));
}

TEST_F(Launch, TheSecretMayStandInAFile) {
  const HeldPort port;
  const std::vector<std::string> run = {"--world-size", "2", "--rendezvous",
                                        "127.0.0.1:" + std::to_string(port.number())};
  const std::string secret = "a secret of more than sixteen bytes";
  const std::string file = folder_ / "secret";
  std::ofstream(file) << secret << "\n";
  std::vector<std::string> zero = Generate({"--rank", "0", "--secret-file", file});
  std::vector<std::string> one = Generate({"--rank", "1"});
  for (auto* arguments : {&zero, &one}) arguments->insert(arguments->end(), run.begin(), run.end());
  std::vector<Process> processes;
  processes.emplace_back(zero, std::map<std::string, std::string>(), ErrorFile(0));
  // Who does not know it, or speaks in clear, does not meet the other one.
  processes.emplace_back(one, std::map<std::string, std::string>{{"XCOMPOSER_SECRET", secret}},
                         ErrorFile(1));
  EXPECT_EQ(AnswerOf(std::move(processes))["output_ids"], AnswerOfOne()["output_ids"]);
}

TEST_F(Launch, AddressesBeyondThisMachineNeedASecret) {
  Process process(Generate({"--rank", "0", "--world-size", "2", "--rendezvous", "0.0.0.0:29501"}));
  EXPECT_EQ(process.Wait(kPatience), 2) << process.transcript();
  EXPECT_THAT(process.transcript(), HasSubstr("secret"));
}

TEST_F(Launch, HalfALaunchIsWrongUsage) {
  Process process(Generate({"--rank", "1"}));
  EXPECT_EQ(process.Wait(kPatience), 2) << process.transcript();
}

TEST_F(Launch, TracesOfTheGoldensOverProcessesAreTheSameBytes) {
  const fs::path goldens = fs::path(XCOMPOSER_SHARED_DIR) / "data/goldens";
  if (!fs::exists(goldens)) GTEST_SKIP() << "no goldens in " << goldens;
  const bool full = std::getenv("XCOMPOSER_FULL_TESTS") != nullptr;
  int traced = 0;
  for (const auto& kind : fs::directory_iterator(goldens)) {
    const std::string name = kind.path().filename().string();
    if (!fs::exists(kind.path() / "cases.json") || name.find("4bit") != std::string::npos) continue;
    const size_t cases = json::parse(Content(kind.path() / "cases.json")).size();
    if (!full && traced == 2) break;
    for (size_t i = 0; i < (full ? cases : 1); ++i) {
      const auto arguments = [&](const std::string& out) {
        return std::vector<std::string>{XCOMPOSER_PROGRAM,
                                        "trace",
                                        "--model",
                                        kind.path() / "model",
                                        "--request",
                                        kind.path() / "cases.json",
                                        "--index",
                                        std::to_string(i),
                                        "--image-root",
                                        XCOMPOSER_SHARED_DIR "/data",
                                        "--out",
                                        folder_ / out,
                                        "--quiet",
                                        "--threads",
                                        "1"};
      };
      Process alone(arguments("alone"));
      ASSERT_EQ(alone.Wait(kPatience), 0) << name << " " << i << alone.transcript();
      std::vector<Process> ranks = StartAll(3, arguments("ranks"));
      for (size_t rank = 0; rank < ranks.size(); ++rank) {
        ASSERT_EQ(ranks[rank].Wait(kPatience), 0) << name << ErrorsOf(static_cast<int>(rank));
      }
      EXPECT_TRUE(Content(folder_ / "alone") == Content(folder_ / "ranks"))
          << name << ", case " << i;
      ++traced;
    }
  }
  EXPECT_GT(traced, 0);
}

}  // namespace
}  // namespace xcomposer
