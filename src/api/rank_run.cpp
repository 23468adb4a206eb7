#include "api/rank_run.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <utility>

#include "api/plan_file.h"
#include "base/check.h"
#include "base/sha256.h"
#include "checkpoint/fingerprint.h"
#include "pipeline/stage_device.h"
#include "placement/device_map_json.h"
#include "placement/footprint.h"
#include "transport/connect.h"
#include "transport/launch.h"
#include "transport/run_identity.h"
#include "workers/layout.h"
#include "xcomposer/version.h"

namespace xcomposer::api {
namespace {

// Opening a checkpoint on a slow disk; the heartbeat tells earlier who is lost.
constexpr std::chrono::minutes kLongestOpen{10};

Launch LaunchOf(const RankOptions& options) {
  LaunchFlags flags;
  flags.rank = options.rank;
  flags.world_size = options.world_size;
  if (!options.rendezvous.empty()) flags.rendezvous = options.rendezvous;
  return ReadLaunch(flags, options.from_environment ? ProcessEnvironment()
                                                    : std::map<std::string, std::string>());
}

std::optional<Secret> SecretOf(const RankOptions& options) {
  if (!options.secret.empty()) return Secret(options.secret);
  const std::optional<std::string> file =
      options.secret_file.empty() ? std::nullopt : std::optional(options.secret_file);
  return ReadSecret(
      file, options.from_environment ? ProcessEnvironment() : std::map<std::string, std::string>());
}

std::chrono::milliseconds Milliseconds(double seconds, const char* name) {
  Require(std::isfinite(seconds) && seconds >= 0 && seconds <= 86400, ErrorKind::kUsage, name,
          " is ", seconds, "; expected seconds up to a day");
  return std::chrono::milliseconds(std::llround(seconds * 1000));
}

/// "a" and "cuda:0" of "a/cuda:0" and "a:cuda:0"; an empty node for "cuda:0" and "cpu".
std::pair<std::string, std::string> SplitNode(const std::string& device) {
  const size_t slash = device.find('/');
  if (slash != std::string::npos) return {device.substr(0, slash), device.substr(slash + 1)};
  const size_t colon = device.find(':');
  if (colon == std::string::npos || !IsDeviceName(device.substr(colon + 1))) return {"", device};
  return {device.substr(0, colon), device.substr(colon + 1)};
}

/// The number of a rank: "2" and "rank2" are rank 2; nothing for the name of a machine.
std::optional<int> RankIn(const std::string& node) {
  const std::string digits = node.rfind("rank", 0) == 0 ? node.substr(4) : node;
  const bool is_number =
      !digits.empty() && digits.size() <= 6 &&
      std::all_of(digits.begin(), digits.end(), [](char c) { return c >= '0' && c <= '9'; });
  return is_number ? std::optional(std::stoi(digits)) : std::nullopt;
}

std::string ConfigHash(const std::filesystem::path& folder) {
  std::ifstream file(folder / "config.json", std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  Sha256Hasher hasher;
  hasher.Add(text);
  return hasher.Finish();
}

std::string PlanHash(const AskedPlacement& asked, const PipelineOptions& pipeline) {
  std::string text = StrCat("block ", pipeline.kv.block_size, ", rows ", pipeline.max_batch_rows,
                            ", storage ", static_cast<int>(pipeline.storage), ", weights ",
                            pipeline.pack_bf12 ? "bf12" : ToString(pipeline.quantise), ", kv ",
                            pipeline.int8_kv ? "int8" : "computed", ", activations ",
                            static_cast<int>(pipeline.activations));
  for (size_t i = 0; i < asked.devices.size(); ++i) {
    text += StrCat("; ", asked.devices[i].rank, " ", asked.devices[i].device);
    if (!asked.map) continue;
    const StagePlace& stage = asked.map->stages[i];
    text += StrCat(" ", stage.first_layer, " ", stage.end_layer);
  }
  Sha256Hasher hasher;
  hasher.Add(text);
  return hasher.Finish();
}

}  // namespace

bool NamesNode(const std::string& device) { return !SplitNode(device).first.empty(); }

std::vector<RankedDevice> RankDevices(const std::vector<std::string>& devices) {
  const auto named = std::count_if(devices.begin(), devices.end(), NamesNode);
  Require(named == 0 || named == static_cast<int64_t>(devices.size()), ErrorKind::kPlan,
          "some devices name their rank or node and some do not; write 0:cpu,1:cpu or cpu,cpu");
  const bool numbers = std::all_of(devices.begin(), devices.end(), [](const std::string& device) {
    return RankIn(SplitNode(device).first).has_value();
  });
  std::vector<RankedDevice> ranked;
  std::vector<std::string> nodes;  // by rank
  for (const std::string& device : devices) {
    const auto [node, name] = SplitNode(device);
    int rank = 0;
    if (named > 0 && numbers) {
      rank = *RankIn(node);
    } else if (named > 0) {
      const auto found = std::find(nodes.begin(), nodes.end(), node);
      rank = static_cast<int>(found - nodes.begin());
      if (found == nodes.end()) nodes.push_back(node);
    }
    ranked.push_back({rank, name});
  }
  return ranked;
}

std::vector<RankedDevice> DevicesOfRun(const std::vector<std::string>& devices, int world_size) {
  std::vector<RankedDevice> ranked = RankDevices(devices);
  if (devices.empty() || NamesNode(devices.front())) return ranked;
  std::vector<RankedDevice> all;
  for (int rank = 0; rank < world_size; ++rank) {
    for (const RankedDevice& device : ranked) all.push_back({rank, device.device});
  }
  return all;
}

AskedPlacement AskedOfRun(const EngineOptions& options, const ModelConfig& config, int world_size) {
  AskedPlacement asked;
  if (options.device_map.empty() || options.device_map == "auto") {
    asked.devices = DevicesOfRun(options.devices, world_size);
  } else {
    asked.map = FromPlanFile(options.device_map, [&config](const std::string& text) {
      return FromHuggingFaceJson(text, config);
    });
    std::vector<std::string> names;
    for (const StagePlace& stage : asked.map->stages) names.push_back(stage.device);
    Require(NamesNode(names.front()), ErrorKind::kPlan, "the device map '", options.device_map,
            "' names no ranks, and this run has ", world_size, " of them; write 0:cpu, 1:cpu, ...");
    asked.devices = RankDevices(names);
  }
  std::vector<int> ranks;
  for (const RankedDevice& device : asked.devices) {
    ranks.push_back(device.rank);
    if (options.kv_precision == KvPrecision::kInt8 && IsCuda(device.device)) {
      RefuseInt8Kv(StrCat(device.rank, ":", device.device));
    }
  }
  // Throws where the ranks of the stages and those of the run do not go together.
  StageLayout(ranks, world_size);
  return asked;
}

std::vector<std::string> DevicesOfOneProcess(const std::vector<std::string>& devices,
                                             const std::string& named_by) {
  std::vector<std::string> names;
  for (const RankedDevice& device : RankDevices(devices)) {
    Require(device.rank == 0, ErrorKind::kPlan, named_by, " a device of rank ", device.rank,
            ", and this process is the only one of the run. Start one for every rank (--rank, "
            "--world-size and --rendezvous, or torchrun, srun, mpirun), or name devices of this "
            "machine without ranks and nodes: cpu, cuda:0");
    names.push_back(device.device);
  }
  return names;
}

bool IsDistributed(const RankOptions& options) { return LaunchOf(options).is_distributed(); }

std::shared_ptr<Transport> JoinRun(const RankOptions& options, const std::function<bool()>& stop) {
  const Launch launch = LaunchOf(options);
  TransportOptions transport;
  transport.rank_timeout = Milliseconds(options.timeout_s, "timeout_s");
  transport.connect_timeout = Milliseconds(options.connect_timeout_s, "connect_timeout_s");
  Require(transport.rank_timeout.count() > 0, ErrorKind::kUsage,
          "timeout_s is 0; expected the seconds after which a silent rank is lost");
  Require(options.bind_port >= 0 && options.bind_port <= 65535, ErrorKind::kUsage, "bind_port is ",
          options.bind_port, "; expected a port, or 0 for any that is free");
  transport.bind_address = options.bind_address;
  transport.bind_port = static_cast<uint16_t>(options.bind_port);
  transport.stop = stop;
  if (!launch.is_distributed()) return nullptr;
  return ConnectRanks(launch, SecretOf(options), transport);
}

void AgreeOnModel(Transport& transport, const Checkpoint& checkpoint, const AskedPlacement& asked,
                  const PipelineOptions& pipeline) {
  RunIdentity identity;
  identity.fields = {{"version", Version()},
                     {"plan", PlanHash(asked, pipeline)},
                     {"config", ConfigHash(checkpoint.directory())},
                     {"weights", WeightFingerprint(checkpoint)}};
  AgreeOnIdentity(transport, identity, std::chrono::steady_clock::now() + kLongestOpen);
}

}  // namespace xcomposer::api

namespace xcomposer {

int RankOf(const RankOptions& options) { return api::LaunchOf(options).rank; }

}  // namespace xcomposer
