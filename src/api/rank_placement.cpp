#include "api/rank_placement.h"

#include <chrono>
#include <optional>
#include <string>
#include <utility>

#include "api/load_plan.h"
#include "api/rank_cluster.h"
#include "base/check.h"
#include "base/sha256.h"
#include "placement/cluster_json.h"
#include "transport/run_identity.h"
#include "transport/setup_frames.h"
#include "transport/stage_shares.h"

namespace xcomposer::api {
namespace {

constexpr std::chrono::minutes kLongest{10};  // the heartbeat tells earlier who is lost
constexpr int64_t kMostBytes = int64_t{1} << 20;
constexpr ExpectedSetup kDevices = {SetupKind::kDevices, kMostBytes, "what it has"};
constexpr ExpectedSetup kPlacement = {SetupKind::kPlacement, kMostBytes, "where the layers go"};

std::string TextOf(const Payload& payload) {
  return {reinterpret_cast<const char*>(payload.data), static_cast<size_t>(payload.size)};
}

Cluster ReceiveDevices(Transport& transport, int from, TimePoint until) {
  const Payload sent = ReceiveSetup(transport, from, kDevices, until);
  try {
    return ParseCluster(TextOf(sent));
  } catch (const Error& error) {
    throw Error(ErrorKind::kTransport,
                StrCat("rank ", from, " described its devices wrongly: ", error.what()),
                {{"rank", StrCat(from)}, {"stage", "0"}, {"step", "0"}});
  }
}

std::vector<StageShare> SharesOf(const DeviceMap& map, const Cluster& cluster) {
  std::vector<StageShare> shares;
  for (size_t i = 0; i < map.stages.size(); ++i) {
    shares.push_back({map.stages[i].end_layer, cluster.devices[i].budget});
  }
  return shares;
}

/// What rank 0 sent: checked as a map that somebody made.
RunPlacement PlacementOf(const Payload& sent, const AskedPlacement& asked,
                         const ModelConfig& config) {
  const std::vector<StageShare> shares = DecodeShares(sent.bytes(), asked.devices.size());
  RunPlacement placement;
  int64_t layer = 0;
  for (size_t i = 0; i < shares.size(); ++i) {
    placement.budgets.push_back(shares[i].budget);
    placement.ranked.map.stages.push_back({asked.devices[i].device, layer, shares[i].end_layer});
    placement.ranked.rank_of_stage.push_back(asked.devices[i].rank);
    layer = shares[i].end_layer;
  }
  CheckDeviceMap(placement.ranked.map, config);
  return placement;
}

std::string HashOf(const RunPlacement& placement) {
  Sha256Hasher hasher;
  for (const StagePlace& stage : placement.ranked.map.stages) {
    hasher.Add(StrCat(stage.device, " ", stage.first_layer, " ", stage.end_layer, ";"));
  }
  return hasher.Finish();
}

Payload PlaceAll(Transport& transport, const AskedPlacement& asked, const EngineOptions& options,
                 const ModelConfig& config, const StoredWeights& stored, TimePoint until) {
  std::vector<Cluster> ranks = {OwnDevices(asked.devices, 0)};
  for (int rank = 1; rank < transport.world_size(); ++rank) {
    ranks.push_back(ReceiveDevices(transport, rank, until));
  }
  const Cluster cluster = ClusterOfRun(asked.devices, ranks);
  const DeviceMap map = asked.map ? *asked.map : PlanRun(options, config, stored, cluster);
  Payload placement = EncodeShares(SharesOf(map, cluster));
  for (int rank = 1; rank < transport.world_size(); ++rank) {
    SendSetup(transport, rank, SetupKind::kPlacement, placement);
  }
  return placement;
}

}  // namespace

RunPlacement PlaceTogether(Transport& transport, const AskedPlacement& asked,
                           const EngineOptions& options, const ModelConfig& config,
                           const StoredWeights& stored) {
  const TimePoint until = std::chrono::steady_clock::now() + kLongest;
  Payload payload;
  if (transport.rank() == 0) {
    payload = PlaceAll(transport, asked, options, config, stored, until);
  } else {
    const Cluster own = OwnDevices(asked.devices, transport.rank());
    SendSetup(transport, 0, SetupKind::kDevices, Payload::Of(ToJson(own)));
    payload = ReceiveSetup(transport, 0, kPlacement, until);
  }
  RunPlacement placement = PlacementOf(payload, asked, config);
  AgreeOnIdentity(transport, {{{"plan", HashOf(placement)}}}, until);
  return placement;
}

}  // namespace xcomposer::api
