// One rank of a run, for tests that kill it: makes an engine (or serves), says what it is at,
// survives every error, and makes another one when told to.
//
//   rank_program RANK WORLD_SIZE MODEL TIMEOUT_S
//
// Standard input: "run PORT" starts a run, "quit" ends the program. Standard output: "ready",
// "loading", "prefill", "decode", "ids ...", "ended", "error KIND rank=R stage=S step=N: MESSAGE".
#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>
#include <thread>

#include "xcomposer/xcomposer.h"

namespace {

using namespace xcomposer;

// So that a signal that comes "while loading" or "while the prompt runs" finds it there.
constexpr std::chrono::milliseconds kSlowTensor{3};
constexpr int64_t kPromptRows = 160;
constexpr int64_t kAnswer = 40;

void Say(const std::string& line) { std::cout << line + "\n" << std::flush; }

void RunFirst(const EngineOptions& options) {
  Engine engine = Engine::Load(options);
  Request request;
  request.token_ids.emplace();
  for (int32_t i = 0; i < kPromptRows; ++i) request.token_ids->push_back(i == 0 ? 1 : 40 + i % 7);
  request.generation.do_sample = true;
  request.generation.temperature = 100.0;  // the answer never ends by itself
  request.generation.top_k = 0;
  request.generation.top_p = 1.0;
  request.generation.seed = 7;
  request.generation.max_new_tokens = kAnswer;
  request.generation.eos_token_id = std::vector<int32_t>{};
  Say("prefill");
  bool begun = false;
  const Result result = engine.Generate(request, [&begun](const std::string&) {
    if (!begun) Say("decode");
    begun = true;
  });
  std::ostringstream ids;
  for (const int32_t id : result.output_ids) ids << ' ' << id;
  Say("ids" + ids.str());
}

std::string WhereOf(const Error& error, const char* key) {
  const auto found = error.where().find(key);
  return std::string(" ") + key + "=" + (found == error.where().end() ? "?" : found->second);
}

void RunOnce(EngineOptions options) {
  bool loading = false;
  options.progress = [&loading](const LoadProgress&) {
    if (!loading) Say("loading");
    loading = true;
    std::this_thread::sleep_for(kSlowTensor);
  };
  try {
    if (*options.ranks.rank == 0) {
      RunFirst(options);
    } else {
      Serve(options);
    }
    Say("ended");
  } catch (const Error& error) {
    Say(std::string("error ") + ToString(error.kind()) + WhereOf(error, "rank") +
        WhereOf(error, "stage") + WhereOf(error, "step") + ": " + error.what());
  }
}

/// From now on this process gets so many bytes of address space more, and then none.
void LimitMemory(int64_t bytes) {
  std::ifstream file("/proc/self/statm");
  int64_t pages = 0;
  file >> pages;
  const auto limit = static_cast<rlim_t>(pages * sysconf(_SC_PAGESIZE) + bytes);
  const rlimit both = {limit, limit};
  if (setrlimit(RLIMIT_AS, &both) != 0) Say("the limit could not be set");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) return 2;
  EngineOptions options;
  options.model = argv[3];
  options.threads = 1;
  options.kv_tokens = 2048;
  options.prefill_chunk = 16;
  options.ranks.rank = std::atoi(argv[1]);
  options.ranks.world_size = std::atoi(argv[2]);
  options.ranks.timeout_s = std::atof(argv[4]);
  options.ranks.from_environment = true;  // the secret
  if (const char* positions = std::getenv("RANK_PROGRAM_KV")) {
    options.kv_tokens = std::atoll(positions);
  }
  if (const char* bytes = std::getenv("RANK_PROGRAM_MEMORY")) LimitMemory(std::atoll(bytes));
  // A plan of its own, for the test that ranks compare theirs.
  if (const char* devices = std::getenv("RANK_PROGRAM_DEVICES")) {
    options.devices.clear();
    std::istringstream list(devices);
    for (std::string device; std::getline(list, device, ',');) options.devices.push_back(device);
  }
  Say("ready");
  std::string word;
  while (std::cin >> word && word == "run") {
    std::string port;
    std::cin >> port;
    options.ranks.rendezvous = "127.0.0.1:" + port;
    RunOnce(options);
  }
  return 0;
}
