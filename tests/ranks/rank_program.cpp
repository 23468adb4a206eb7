// One rank of a run, for tests that kill it: makes an engine (or serves), says what it is at,
// survives every error, and makes another one when told to.
//
//   rank_program RANK WORLD_SIZE MODEL TIMEOUT_S
//
// Standard input, one command a line: "set NAME VALUE" (see Apply), "run HOST:PORT" starts a run,
// "quit" ends the program. Standard output: "ready", "loading", "prefill", "decode", "ids ...",
// "failed ..." for a request that the engine survives, "ended", "error ...", the last two with
// "KIND rank=R stage=S step=N field=F: MESSAGE".
#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <mutex>
#include <sstream>
#include <string>
#include <thread>

#include "ranks/interposed.h"
#include "xcomposer/xcomposer.h"

namespace {

using namespace xcomposer;

// So that a signal that comes "while loading" or "while the prompt runs" finds it there.
constexpr std::chrono::milliseconds kSlowTensor{3};
constexpr int64_t kPromptRows = 160;

void Say(const std::string& line) { std::cout << line + "\n" << std::flush; }

std::string WhereOf(const Error& error, const char* key) {
  const auto found = error.where().find(key);
  return std::string(" ") + key + "=" + (found == error.where().end() ? "?" : found->second);
}

std::string Described(const Error& error) {
  return std::string(ToString(error.kind())) + WhereOf(error, "rank") + WhereOf(error, "stage") +
         WhereOf(error, "step") + WhereOf(error, "field") + ": " + error.what();
}

Request Question(int64_t answer) {
  Request request;
  request.token_ids.emplace();
  for (int32_t i = 0; i < kPromptRows; ++i) request.token_ids->push_back(i == 0 ? 1 : 40 + i % 7);
  request.generation.do_sample = true;
  request.generation.temperature = 100.0;  // the answer never ends by itself
  request.generation.top_k = 0;
  request.generation.top_p = 1.0;
  request.generation.seed = 7;
  request.generation.max_new_tokens = answer;
  request.generation.eos_token_id = std::vector<int32_t>{};
  return request;
}

/// Asks until there is an answer: a step without memory fails its request and nothing else.
Result Ask(Engine& engine, const Request& request) {
  for (;;) {
    Say("prefill");
    bool begun = false;
    try {
      return engine.Generate(request, [&begun](const std::string&) {
        if (!begun) Say("decode");
        begun = true;
      });
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::kCapacity) throw;
      Say("failed " + Described(error));
    }
  }
}

struct Settings {
  EngineOptions engine;
  int64_t answer = 40;
  std::string stop;
};

/// Asks to end while the ranks meet or load, and holds the loading until that was heard.
class Stop {
 public:
  explicit Stop(const std::string& when)
      : meeting_(when == "meeting"), loading_(when == "loading") {}

  bool Asked() {
    const std::lock_guard lock(mutex_);
    heard_ = meeting_ || (loading_ && begun_);
    changed_.notify_all();
    return heard_;
  }
  void OnLoading() {
    if (!loading_) return;
    std::unique_lock lock(mutex_);
    begun_ = true;
    changed_.wait_for(lock, kPatience, [this] { return heard_; });
  }

 private:
  static constexpr std::chrono::seconds kPatience{10};  // where nobody asks

  const bool meeting_;
  const bool loading_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool begun_ = false;
  bool heard_ = false;
};

void RunFirst(const EngineOptions& options, int64_t answer) {
  Engine engine = Engine::Load(options);
  const Result result = Ask(engine, Question(answer));
  std::ostringstream ids;
  for (const int32_t id : result.output_ids) ids << ' ' << id;
  Say("ids" + ids.str());
}

void RunOnce(const Settings& settings) {
  EngineOptions options = settings.engine;
  Stop stop(settings.stop);
  const auto asked = [&stop] { return stop.Asked(); };
  options.ranks.stop = asked;
  bool loading = false;
  options.progress = [&](const LoadProgress&) {
    if (!loading) Say("loading");
    loading = true;
    stop.OnLoading();
    std::this_thread::sleep_for(kSlowTensor);
  };
  try {
    if (*options.ranks.rank == 0) {
      RunFirst(options, settings.answer);
    } else {
      Serve(options, asked);
    }
    Say("ended");
  } catch (const Error& error) {
    Say("error " + Described(error));
  }
}

/// From now on this process gets so many bytes of address space more, and then none.
void LimitMemory(int64_t bytes) {
  std::ifstream file("/proc/self/statm");
  int64_t pages = 0;
  file >> pages;
  rlimit limit{};
  getrlimit(RLIMIT_AS, &limit);
  limit.rlim_cur = static_cast<rlim_t>(pages * sysconf(_SC_PAGESIZE) + bytes);
  if (bytes <= 0) limit.rlim_cur = limit.rlim_max;
  if (setrlimit(RLIMIT_AS, &limit) != 0) Say("the limit could not be set");
}

std::vector<std::string> ListOf(const std::string& text) {
  std::vector<std::string> parts;
  std::istringstream list(text);
  for (std::string part; std::getline(list, part, ',');) parts.push_back(part);
  return parts;
}

void Apply(const std::string& name, const std::string& value, Settings& settings) {
  EngineOptions& engine = settings.engine;
  if (name == "model") {
    engine.model = value;
  } else if (name == "devices") {
    engine.devices = ListOf(value);
  } else if (name == "kv") {
    engine.kv_tokens = std::stoll(value);
  } else if (name == "kv_precision") {
    engine.kv_precision = value == "int8" ? KvPrecision::kInt8 : KvPrecision::kAsComputed;
  } else if (name == "weight_precision") {
    engine.weights = value == "bf12" ? WeightPrecision::kBf12 : WeightPrecision::kAsStored;
  } else if (name == "activations") {
    engine.activations =
        value == "bf16" ? ActivationPrecision::kBFloat16 : ActivationPrecision::kFloat32;
  } else if (name == "answer") {
    settings.answer = std::stoll(value);
  } else if (name == "secret") {
    engine.ranks.secret = value;
  } else if (name == "secret_file") {
    engine.ranks.secret_file = value;
  } else if (name == "timeout") {
    engine.ranks.timeout_s = std::stod(value);
  } else if (name == "connect_timeout") {
    engine.ranks.connect_timeout_s = std::stod(value);
  } else if (name == "stop") {  // when this rank is asked to end: "meeting", "loading", ""
    settings.stop = value;
  } else if (name == "bind_port") {
    engine.ranks.bind_port = std::stoi(value);
  } else if (name == "memory") {  // bytes that it may still allocate; 0: any
    LimitMemory(std::stoll(value));
  } else if (name == "version") {  // of the library, as the other ranks see it
    testing::PretendVersion(value);
  } else if (name == "redirect") {  // PORT,OTHER: connections go to the other port of loopback
    const std::vector<std::string> ports = ListOf(value);
    testing::RedirectConnections(std::stoi(ports.at(0)), std::stoi(ports.at(1)));
  } else {
    Say("there is no setting " + name);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) return 2;
  // SIGUSR1: the system has no memory for the next tensor.
  std::signal(SIGUSR1, [](int) { testing::FailNextAllocation(); });
  Settings settings;
  EngineOptions& options = settings.engine;
  options.model = argv[3];
  options.threads = 1;
  options.kv_tokens = 2048;
  options.prefill_chunk = 16;
  options.ranks.rank = std::atoi(argv[1]);
  options.ranks.world_size = std::atoi(argv[2]);
  options.ranks.timeout_s = std::atof(argv[4]);
  Say("ready");
  for (std::string line; std::getline(std::cin, line) && line != "quit";) {
    std::istringstream words(line);
    std::string command;
    std::string name;
    words >> command >> name >> std::ws;
    if (command == "run") {
      options.ranks.rendezvous = name;
      RunOnce(settings);
    } else {
      std::string value;
      std::getline(words, value);
      Apply(name, value, settings);
    }
  }
  return 0;
}
