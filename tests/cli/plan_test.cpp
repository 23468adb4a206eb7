// `xcomposer plan` as a user runs it: the worked examples, the JSON that others recompute, refusals
// whose alternatives are tried out.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include "config/config_texts.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "program.h"

namespace xcomposer::testing {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

const std::string kConfigs = XCOMPOSER_SOURCE_DIR "/configs";
const std::vector<std::string> kExamples = {"one-40gb", "24gb-and-12gb", "four-unequal",
                                            "two-by-two", "cpu-only"};

std::string ClusterFile(const std::string& name) {
  return kConfigs + "/clusters/" + name + ".json";
}

/// Runs plan on a shipped config.json.
class PlanTest : public ::testing::Test {
 protected:
  ProgramOutput Run(Kind kind, std::vector<std::string> arguments) {
    const std::string config = folder_.Write("config.json", ShippedConfig(kind).dump());
    std::vector<std::string> all = {"plan", "--model", config};
    all.insert(all.end(), arguments.begin(), arguments.end());
    return RunProgram(all);
  }

  json Plan(Kind kind, std::vector<std::string> arguments, int exit_code = 0) {
    arguments.push_back("--json");
    const ProgramOutput run = Run(kind, arguments);
    EXPECT_EQ(run.exit_code, exit_code) << run.out.substr(0, 2000) << run.err;
    return run.Json();
  }

  const TemporaryFolder folder_;
};

/// Everything that a reader of the JSON can recompute from modules and devices.
void ExpectConsistent(const json& plan) {
  std::map<std::string, json> modules;
  for (const json& module : plan["modules"]) modules[module["name"]] = module;
  std::set<std::string> placed;
  double sum = 0;
  double slowest = 0;
  double whole = 0;
  int64_t layer = 0;
  for (const json& device : plan["devices"]) {
    int64_t total = device["bytes"]["overhead"];
    double step = 0;
    double request = 0;
    for (const std::string part : device["parts"]) {
      EXPECT_TRUE(placed.insert(part).second) << part << " is placed twice";
      const json& module = modules.at(part);
      for (const char* cause :
           {"weight_bytes", "kv_bytes", "activation_bytes", "workspace_bytes"}) {
        total += module[cause].get<int64_t>();
      }
      const std::string name = device["device"];
      step += module["step_s"][name].get<double>();
      request += module["request_s"][name].get<double>();
      EXPECT_TRUE(plan["device_map"].contains(part));
    }
    EXPECT_EQ(device["bytes"]["total"], total);
    EXPECT_LE(total, device["budget"].get<int64_t>());
    EXPECT_EQ(device["headroom"].get<int64_t>(), device["budget"].get<int64_t>() - total);
    EXPECT_NEAR(device["step_s"].get<double>(), step, 1e-12 + 1e-12 * step);
    EXPECT_NEAR(device["request_s"].get<double>(), request, 1e-12 + 1e-12 * request);
    whole += request + device["request_hop_s"].get<double>();
    EXPECT_EQ(device["first_layer"], layer);
    layer = device["last_layer"].get<int64_t>() + 1;
    const double seconds = step + device["hop_s"].get<double>();
    sum += seconds;
    slowest = std::max(slowest, seconds);
  }
  EXPECT_EQ(placed.size(), modules.size());
  EXPECT_EQ(layer, plan["model"]["layers"].get<int64_t>());
  EXPECT_EQ(plan["devices"].back()["hop_s"], 0.0);
  const bool spread = plan["objective"] == "throughput";
  const double value = spread ? slowest : plan["objective"] == "latency" ? sum : whole;
  EXPECT_NEAR(plan["value_s"].get<double>(), value, 1e-9 * value);
  const auto sequences = plan["workload"]["sequences"].get<double>();
  const double stages = static_cast<double>(plan["devices"].size());
  EXPECT_EQ(plan["workload"]["step_sequences"], spread ? std::ceil(sequences / stages) : sequences);
  const double together = plan["workload"]["step_sequences"];
  const json& predicted = plan["predicted"];
  const double through = predicted["decode_step_s"].get<double>();
  const double rate = std::min(together / slowest, sequences / through);
  EXPECT_NEAR(predicted["tokens_per_s"].get<double>(), rate, 1e-9 * rate);
  const json& work = plan["workload"];
  const double request = work["images"].get<double>() * predicted["image_s"].get<double>() +
                         predicted["prefill_s"].get<double>() +
                         work["answer_tokens"].get<double>() * through;
  EXPECT_NEAR(predicted["request_s"].get<double>(), request, 1e-9 * request);
}

TEST_F(PlanTest, WorkedExamplesFitAsTheirMapsSay) {
  for (const std::string& name : kExamples) {
    const std::vector<std::string> work = {"--cluster",   ClusterFile(name), "--sequences",
                                           "8",           "--context",       "4096",
                                           "--objective", "throughput"};
    const json plan = Plan(Kind::kVl7b, work);
    ExpectConsistent(plan);
    EXPECT_TRUE(plan["optimal"]) << name;
    for (const std::string note : plan["notes"]) {  // nothing is assumed
      EXPECT_THAT(note, HasSubstr("alone would give")) << name;
    }
    const std::string file = kConfigs + "/device-maps/vl-7b-on-" + name + ".json";
    std::ifstream kept(file);
    EXPECT_EQ(json::parse(kept), plan["device_map"]) << name;
    // The same map, checked and measured, is worth the same.
    std::vector<std::string> with_map = work;
    with_map.insert(with_map.end(), {"--device-map", file});
    const json measured = Plan(Kind::kVl7b, with_map);
    EXPECT_EQ(measured["value_s"], plan["value_s"]) << name;
    EXPECT_EQ(measured["devices"], plan["devices"]) << name;
  }
}

TEST_F(PlanTest, EveryKindIsPlannedFromItsConfigAlone) {
  for (const Kind kind : kAllKinds) {
    const char* objective = kind == Kind::k25_7b || kind == Kind::kVl7b ? "throughput"
                            : kind == Kind::k4khd7b                     ? "request"
                                                                        : "latency";
    const json plan = Plan(kind, {"--cluster", ClusterFile("two-by-two"), "--sequences", "2",
                                  "--objective", objective});
    EXPECT_EQ(plan["model"]["kind"], ToString(kind));
    EXPECT_EQ(plan["objective"], objective);
    ExpectConsistent(plan);
  }
}

TEST_F(PlanTest, AlternativesAppendedToTheCommandFit) {
  const std::vector<std::vector<std::string>> refused = {
      {"--weights", "fp32", "--order", "given", "--cluster", ClusterFile("24gb-and-12gb")},
      {"--weights", "fp32,fp16", "--sequences", "64", "--hd-num", "55", "--cluster",
       ClusterFile("one-40gb")},
      {"--cluster", ClusterFile("one-40gb"), "--max-memory", R"({"0": "6GiB"})"}};
  for (const std::vector<std::string>& arguments : refused) {
    const json refusal = Plan(Kind::k4khd7b, arguments, 5);
    EXPECT_FALSE(refusal["fits"]);
    ASSERT_THAT(refusal["short"], Not(IsEmpty()));
    for (const json& shortage : refusal["short"]) {
      EXPECT_EQ(shortage["missing"].get<int64_t>(),
                shortage["needed"].get<int64_t>() - shortage["available"].get<int64_t>());
      EXPECT_GT(shortage["missing"].get<int64_t>(), 0);
      EXPECT_EQ(shortage["by_cause"]["total"], shortage["needed"]);
    }
    ASSERT_THAT(refusal["alternatives"], Not(IsEmpty()));
    for (const json& alternative : refusal["alternatives"]) {
      std::vector<std::string> changed = arguments;
      for (const std::string argument : alternative["arguments"]) changed.push_back(argument);
      const json plan = Plan(Kind::k4khd7b, changed);
      ExpectConsistent(plan);
      EXPECT_EQ(plan["devices"], alternative["devices"]) << alternative["change"];
    }
  }
}

/// Runs `command`, which does not fit, again with each of the alternatives.
void ExpectAlternativesToFit(const std::vector<std::string>& command) {
  const auto plan = [](std::vector<std::string> arguments) {
    arguments.push_back("--json");
    return RunProgram(arguments);
  };
  const ProgramOutput refusal = plan(command);
  ASSERT_EQ(refusal.exit_code, 5) << refusal.err;
  ASSERT_TRUE(refusal.Json().contains("alternatives")) << refusal.out;
  for (const json& alternative : refusal.Json()["alternatives"]) {
    std::vector<std::string> changed = command;
    for (const std::string argument : alternative["arguments"]) changed.push_back(argument);
    const ProgramOutput run = plan(changed);
    ASSERT_EQ(run.exit_code, 0) << alternative["change"] << run.out;
    EXPECT_EQ(run.Json()["devices"], alternative["devices"]) << alternative["change"];
  }
}

TEST_F(PlanTest, AlternativesFitForACheckpointThatIsQuantised) {
  const std::string model = XCOMPOSER_SHARED_DIR "/data/goldens/2-vl-7b-4bit/model";
  if (!std::filesystem::exists(model)) GTEST_SKIP() << model << " is not there";
  const auto cluster = [&](int64_t memory) {
    return folder_.Write(
        "cluster.json",
        json({{"nodes", {{{"name", "a"}, {"devices", {{{"name", "cpu"}, {"memory", memory}}}}}}}})
            .dump());
  };
  const json whole =
      RunProgram({"plan", "--model", model, "--cluster", cluster(int64_t{1} << 36), "--json"})
          .Json();
  const auto total = whole["devices"][0]["bytes"]["total"].get<int64_t>();
  for (const int64_t missing : {1000, 20000, 300000}) {
    const std::vector<std::string> command = {"plan", "--model", model, "--cluster",
                                              cluster(total - missing)};
    ExpectAlternativesToFit(command);
    std::vector<std::string> either = command;
    either.insert(either.end(), {"--weights", "fp16,int8"});
    ExpectAlternativesToFit(either);
  }
  const ProgramOutput refused = RunProgram(
      {"plan", "--model", model, "--cluster", cluster(total), "--weights", "bf12,int8,int4"});
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_THAT(refused.err, HasSubstr("quantised already"));
}

TEST_F(PlanTest, AlternativesFitForRanks) {
  const std::string config = folder_.Write("config.json", ShippedConfig(Kind::kVl1_8b).dump());
  for (const char* memory : {R"({"0/cpu": "700MB"})", R"({"0/cpu": "4500MB", "1/cpu": "1500MB"})",
                             R"({"0/cpu": "700MB", "1/cpu": "30GB"})"}) {
    ExpectAlternativesToFit(
        {"plan", "--model", config, "--devices", "0:cpu,1:cpu", "--max-memory", memory});
  }
}

TEST_F(PlanTest, AlternativesFitForTinyModels) {
  const std::string model = XCOMPOSER_SHARED_DIR "/data/goldens/2-vl-7b/model-safetensors";
  if (!std::filesystem::exists(model)) GTEST_SKIP() << model << " is not there";
  ExpectAlternativesToFit(
      {"plan", "--model", model, "--devices", "cpu", "--max-memory", R"({"cpu": "10MB"})"});
}

TEST_F(PlanTest, AlternativesLeaveThisMachineSomeOfItsMemory) {
  const std::string model = XCOMPOSER_SOURCE_DIR "/demo/checkpoint";
  const json refusal =
      RunProgram({"plan", "--model", model, "--context", "134217728", "--json"}).Json();
  ASSERT_EQ(refusal["fits"], false) << refusal;
  ASSERT_THAT(refusal["alternatives"], Not(IsEmpty()));
  for (const json& alternative : refusal["alternatives"]) {
    if (alternative["arguments"][0] != "--context") continue;
    const json& device = alternative["devices"][0];
    const auto budget = device["budget"].get<int64_t>();
    EXPECT_GE(device["headroom"].get<int64_t>(), std::max(int64_t{512} << 20, budget / 100 * 3))
        << alternative["change"];
  }
  // A limit of the user's own is no measurement.
  const json limited = RunProgram({"plan", "--model", model, "--context", "134217728",
                                   "--max-memory", R"({"cpu": "700MiB"})", "--json"})
                           .Json();
  ASSERT_THAT(limited["alternatives"], Not(IsEmpty()));
  EXPECT_LT(limited["alternatives"][0]["devices"][0]["headroom"], 100 << 20);
}

TEST_F(PlanTest, AProcessorBesideAGpuThatHoldsAllGetsNothing) {
  const json gpu = {
      {"name", "cuda:0"}, {"memory", "25GiB"}, {"bandwidth", 936e9}, {"flops", 71e12}};
  const json cpu = {{"name", "cpu"}, {"memory", "64GiB"}, {"bandwidth", 50e9}, {"flops", 1e12}};
  const auto plan = [&](const json& devices) {
    const json cluster = {{"nodes", {{{"name", "a"}, {"devices", devices}}}}};
    return Plan(Kind::k25_7b, {"--cluster", folder_.Write("cluster.json", cluster.dump())});
  };
  const json alone = plan(json::array({gpu}));
  const json beside = plan(json::array({gpu, cpu}));
  EXPECT_EQ(beside["devices"], alone["devices"]);
  EXPECT_EQ(beside["predicted"], alone["predicted"]);
}

TEST_F(PlanTest, SaysWhereARequestWouldBeAnsweredSooner) {
  const json gpu = {
      {"name", "cuda:0"}, {"memory", "11.5GiB"}, {"bandwidth", 360e9}, {"flops", 51e12}};
  const json cpu = {{"name", "cpu"}, {"memory", "64GiB"}, {"bandwidth", 50e9}, {"flops", 1e12}};
  const json cluster = {{"nodes", {{{"name", "a"}, {"devices", {gpu, cpu}}}}}};
  std::vector<std::string> arguments = {"--cluster", folder_.Write("cluster.json", cluster.dump())};
  const json latency = Plan(Kind::k25_7b, arguments);
  EXPECT_EQ(latency["devices"][0]["device"], "a/cpu");
  EXPECT_THAT(latency["notes"], Contains(HasSubstr("with --objective request a request takes")));
  arguments.insert(arguments.end(), {"--objective", "request"});
  const json request = Plan(Kind::k25_7b, arguments);
  ExpectConsistent(request);
  EXPECT_TRUE(request["optimal"]);
  EXPECT_EQ(request["devices"][0]["device"], "a/cuda:0");
  EXPECT_LT(request["predicted"]["request_s"], latency["predicted"]["request_s"]);
  EXPECT_THAT(request["notes"], Not(Contains(HasSubstr("--objective request"))));
  EXPECT_EQ(request["candidates"][0]["request_hop_s"]["a/cpu"],
            request["devices"][0]["request_hop_s"]);
  arguments.insert(arguments.end(), {"--answer-tokens", "5000"});
  EXPECT_EQ(Plan(Kind::k25_7b, arguments)["devices"][0]["device"], "a/cpu");
}

TEST_F(PlanTest, WhatNoCudaKernelReadsIsNotOfferedForGpus) {
  const std::vector<std::string> small = {"--cluster", ClusterFile("one-40gb"), "--max-memory",
                                          R"({"0": "12GiB"})"};
  const json refusal = Plan(Kind::kVl7b, small, 5);
  ASSERT_THAT(refusal["alternatives"], Not(IsEmpty()));
  for (const json& alternative : refusal["alternatives"]) {
    EXPECT_THAT(alternative["arguments"], Not(Contains("--weights"))) << alternative["change"];
  }
  for (const char* weights : {"bf12", "int8", "fp32"}) {
    const json plan =
        Plan(Kind::kVl7b, {"--cluster", ClusterFile("one-40gb"), "--weights", weights});
    EXPECT_THAT(plan["notes"], Contains(HasSubstr("refuse to load this on a/cuda:0")));
  }
  const json sixteen = Plan(Kind::kVl7b, {"--cluster", ClusterFile("one-40gb")});
  EXPECT_THAT(sixteen["notes"], Not(Contains(HasSubstr("refuse"))));
  const json cpu = Plan(
      Kind::kVl7b, {"--cluster", ClusterFile("cpu-only"), "--max-memory", R"({"cpu": "18GB"})"}, 5);
  bool offered = false;
  for (const json& alternative : cpu["alternatives"]) {
    offered = offered || alternative["arguments"][0] == "--weights";
  }
  EXPECT_TRUE(offered) << cpu["alternatives"];
}

// Nothing is lost by it: it is offered before all that shortens, rounds or leaves out.
TEST_F(PlanTest, Bf12IsOfferedFirstForBfloat16OnCpus) {
  const std::vector<std::string> work = {"--cluster", ClusterFile("cpu-only"), "--max-memory",
                                         R"({"cpu": "18GB"})"};
  const json refusal = Plan(Kind::kVl7b, work, 5);
  ASSERT_THAT(refusal["alternatives"], Not(IsEmpty()));
  const json& first = refusal["alternatives"][0];
  EXPECT_EQ(first["change"], "weights bf16 -> bf12");
  EXPECT_THAT(first["arguments"], ElementsAre("--weights", "bf12"));
  std::vector<std::string> changed = work;
  changed.insert(changed.end(), {"--weights", "bf12"});
  const json packed = Plan(Kind::kVl7b, changed);
  ExpectConsistent(packed);
  EXPECT_EQ(packed["workload"]["weights"], "bf12");
  EXPECT_EQ(packed["devices"], first["devices"]);

  json half = ShippedConfig(Kind::kVl7b);
  half["torch_dtype"] = "float16";
  std::vector<std::string> command = {"plan", "--model", folder_.Write("config.json", half.dump())};
  command.insert(command.end(), work.begin(), work.end());
  command.push_back("--json");
  const json of_half = RunProgram(command).Json();
  ASSERT_THAT(of_half["alternatives"], Not(IsEmpty()));
  for (const json& alternative : of_half["alternatives"]) {
    EXPECT_THAT(alternative["arguments"], Not(Contains("bf12")));
  }
  command.insert(command.end(), {"--weights", "bf12"});
  const ProgramOutput refused = RunProgram(command);
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_THAT(refused.out, HasSubstr("the weights are fp16, and bf12 packs bfloat16 only"));
}

TEST_F(PlanTest, MapsOfDevicesWithNamesOfTheirOwnAreReadBack) {
  const json device = {{"kind", "cuda"}, {"memory", "16GiB"}, {"bandwidth", 9e11}, {"flops", 1e14}};
  json devices = {device, device};
  devices[0]["name"] = "gpu0";
  devices[1]["name"] = "gpu1";
  const json cluster = {{"nodes", {{{"name", "a"}, {"devices", devices}}}}};
  const std::string file = folder_.Write("cluster.json", cluster.dump());
  const std::string map = folder_ / "map.json";
  const json plan = Plan(Kind::k25_7b, {"--cluster", file, "--export-device-map", map});
  ASSERT_EQ(plan["devices"].size(), 2u);
  const json again = Plan(Kind::k25_7b, {"--cluster", file, "--device-map", map});
  EXPECT_EQ(again["devices"], plan["devices"]);
}

TEST_F(PlanTest, AHandMadeMapThatIsTooFullGetsAPlannedOne) {
  json map;
  for (int layer = 0; layer < 32; ++layer) {
    map["model.layers." + std::to_string(layer)] = layer < 16 ? 0 : 1;
  }
  for (const char* first : {"vit", "vision_proj", "model.tok_embeddings"}) map[first] = 0;
  map["model.norm"] = map["output"] = 1;
  const std::string file = folder_.Write("map.json", map.dump());
  const std::vector<std::string> arguments = {"--cluster",    ClusterFile("24gb-and-12gb"),
                                              "--max-memory", R"({"1": "8GiB"})",
                                              "--device-map", file};
  const json refusal = Plan(Kind::kVl7b, arguments, 5);
  EXPECT_EQ(refusal["short"][0]["device"], "a/cuda:1");
  const json& first = refusal["alternatives"][0];
  EXPECT_THAT(first["arguments"], ElementsAre("--device-map", "auto"));
  map.erase("vit");
  folder_.Write("map.json", map.dump());
  const json broken = Plan(Kind::kVl7b, arguments, 5);
  EXPECT_EQ(broken["error"]["kind"], "plan");
  EXPECT_THAT(broken["error"]["message"].get<std::string>(), HasSubstr("vit"));
}

TEST_F(PlanTest, ShowsATableAndWritesMapAndPicture) {
  const std::string map = folder_ / "map.json";
  const std::string svg = folder_ / "plan.svg";
  const ProgramOutput run =
      Run(Kind::k25_7b, {"--cluster", ClusterFile("two-by-two"), "--sequences", "4",
                         "--export-device-map", map, "--svg", svg});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_THAT(run.out, AllOf(HasSubstr("a/cuda:0"), HasSubstr("vision"), HasSubstr("[WWW"),
                             HasSubstr("tokens/s")));
  std::ifstream map_file(map);
  EXPECT_EQ(json::parse(map_file)["vit"], "a:cuda:0");
  std::ifstream svg_file(svg);
  const std::string text((std::istreambuf_iterator<char>(svg_file)), {});
  EXPECT_THAT(text, AllOf(HasSubstr("<svg"), HasSubstr("b/cuda:1"), HasSubstr("</svg>")));
  const ProgramOutput refused =
      Run(Kind::k25_7b, {"--cluster", ClusterFile("24gb-and-12gb"), "--context", "262144"});
  EXPECT_EQ(refused.exit_code, 5);
  EXPECT_THAT(refused.out, AllOf(HasSubstr("short"), HasSubstr("--context ")));
}

TEST_F(PlanTest, DevicesOfThisMachineAreAClusterFile) {
  const ProgramOutput devices = RunProgram({"devices", "--json"});
  const std::string file = folder_.Write("here.json", devices.out);
  const json plan = Plan(Kind::kVl1_8b, {"--cluster", file, "--context", "2048"});
  ExpectConsistent(plan);
  const json two = Plan(Kind::kVl1_8b, {"--devices", "cpu,cpu", "--context", "2048"});
  EXPECT_EQ(two["devices"].size(), 2u);
  ExpectConsistent(two);
  EXPECT_EQ(Plan(Kind::kVl1_8b, {"--devices", "cuda:99"}, 5)["error"]["kind"], "device");
  // The speed of a processor is known by no name.
  const auto assumed = Contains(HasSubstr("speed assumed"));
  EXPECT_THAT(plan["notes"], assumed);
  EXPECT_THAT(two["notes"], assumed);
  const json ranks = Plan(Kind::kVl1_8b, {"--devices", "0:cpu,1:cpu", "--context", "2048"});
  EXPECT_THAT(ranks["notes"], Contains(HasSubstr("1/cpu: speed assumed")));
}

TEST_F(PlanTest, KeysAndValuesInInt8AreCountedAndOffered) {
  const std::vector<std::string> work = {"--cluster", ClusterFile("cpu-only"), "--context", "4096"};
  const auto with = [&work](std::vector<std::string> more) {
    more.insert(more.begin(), work.begin(), work.end());
    return more;
  };
  const json plain = Plan(Kind::kVl7b, work);
  EXPECT_EQ(plain["workload"]["kv"], "auto");
  const json int8 = Plan(Kind::kVl7b, with({"--kv", "int8"}));
  ExpectConsistent(int8);
  EXPECT_EQ(int8["workload"]["kv"], "int8");
  const auto kv_of = [](const json& plan) {
    int64_t bytes = 0;
    for (const json& module : plan["modules"]) bytes += module["kv_bytes"].get<int64_t>();
    return bytes;
  };
  EXPECT_EQ(kv_of(plain), int64_t{32} * 4096 * 2 * 8 * 512);
  EXPECT_EQ(kv_of(int8), int64_t{32} * 4096 * 2 * 8 * 136);
  EXPECT_LT(int8["value_s"], plain["value_s"]);
  EXPECT_THAT(Run(Kind::kVl7b, with({"--kv", "int8"})).out, HasSubstr("keys and values in int8\n"));

  // So many sequences that their keys and values fit in int8 only.
  const std::vector<std::string> many = with({"--sequences", "160", "--images", "0"});
  const json refusal = Plan(Kind::kVl7b, many, 5);
  std::vector<std::string> offered;
  for (const json& alternative : refusal["alternatives"]) {
    if (alternative["arguments"][0] != "--kv") continue;
    EXPECT_THAT(alternative["arguments"], ElementsAre("--kv", "int8"));
    std::vector<std::string> changed = many;
    changed.insert(changed.end(), {"--kv", "int8"});
    EXPECT_EQ(Plan(Kind::kVl7b, changed)["devices"], alternative["devices"]);
    offered.push_back(alternative["change"]);
  }
  EXPECT_THAT(offered, ElementsAre("KV cache fp32 -> int8"));
}

TEST_F(PlanTest, KeysAndValuesInInt8AreRefusedForAGpu) {
  const json refused = Plan(Kind::kVl7b, {"--cluster", ClusterFile("one-40gb"), "--kv", "int8"}, 5);
  EXPECT_EQ(refused["error"]["kind"], "device");
  EXPECT_EQ(refused["error"]["where"]["device"], "a/cuda:0");
  // Nor is it offered there.
  const json full =
      Plan(Kind::kVl7b, {"--cluster", ClusterFile("one-40gb"), "--sequences", "256"}, 5);
  for (const json& alternative : full["alternatives"]) {
    EXPECT_NE(alternative["arguments"][0], "--kv");
  }
}

TEST_F(PlanTest, WrongUseIsToldApart) {
  EXPECT_EQ(Run(Kind::kVl7b, {"--context", "0"}).exit_code, 2);
  EXPECT_EQ(Run(Kind::kVl7b, {"--weights", "int3"}).exit_code, 2);
  EXPECT_EQ(Run(Kind::kVl7b, {"--kv", "fp8"}).exit_code, 2);
  EXPECT_EQ(Run(Kind::kVl7b, {"--order", "random"}).exit_code, 2);
  EXPECT_EQ(Run(Kind::kVl7b, {"--image-size", "490"}).exit_code, 2);
  EXPECT_EQ(Run(Kind::kVl7b, {"--context", "100000000", "--sequences", "60000"}).exit_code, 2);
  EXPECT_EQ(Run(Kind::kVl7b, {"--cluster", "/nowhere"}).exit_code, 5);
  EXPECT_EQ(
      Run(Kind::kVl7b, {"--cluster", folder_.Write("broken.json", "{\"nodes\": 3}")}).exit_code, 5);
  EXPECT_EQ(RunProgram({"plan", "--model", "/nowhere"}).exit_code, 4);
  json config = ShippedConfig(Kind::kVl7b);
  config["img_size"] = 336;
  const std::string odd = folder_.Write("odd.json", config.dump());
  EXPECT_EQ(RunProgram({"plan", "--model", odd}).exit_code, 4);
  EXPECT_EQ(RunProgram(
                {"plan", "--model", odd, "--kind", "2-vl-7b", "--cluster", ClusterFile("cpu-only")})
                .exit_code,
            0);
}

}  // namespace
}  // namespace xcomposer::testing
