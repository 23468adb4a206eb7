#include "api/rank_cluster.h"

#include <algorithm>
#include <fstream>
#include <map>
#include <string>
#include <utility>

#include "api/machine_cluster.h"
#include "base/check.h"

namespace xcomposer::api {
namespace {

/// Two machines never have the same; two processes of one always do, unless containers with memory
/// of their own give them different host names.
std::string MachineName(const std::string& host) {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string boot;
  file >> boot;
  std::string name = host + "-" + boot;
  std::replace_if(
      name.begin(), name.end(), [](char c) { return c == '/' || c == ':'; }, '-');
  return name.substr(0, 200);
}

/// What several stages may share: the memory of a machine, or a GPU of it.
std::string SharedPart(const Cluster& rank, const ClusterDevice& device) {
  return StrCat(rank.nodes.front().name, "/", device.kind == "cpu" ? "cpu" : device.name);
}

int64_t Count(const Cluster& rank, const ClusterDevice& device) {
  return std::count_if(rank.devices.begin(), rank.devices.end(), [&](const ClusterDevice& other) {
    return SharedPart(rank, other) == SharedPart(rank, device);
  });
}

void CheckRank(const std::vector<RankedDevice>& devices, const Cluster& own, int rank) {
  const auto expected =
      std::count_if(devices.begin(), devices.end(),
                    [rank](const RankedDevice& device) { return device.rank == rank; });
  const bool same = own.nodes.size() == 1 &&
                    static_cast<int64_t>(own.devices.size()) == static_cast<int64_t>(expected);
  if (same) return;
  throw Error(ErrorKind::kTransport,
              StrCat("rank ", rank, " has ", own.devices.size(), " devices on ", own.nodes.size(),
                     " machines, expected ", expected, " on one"),
              {{"rank", StrCat(rank)}, {"stage", "0"}, {"step", "0"}});
}

}  // namespace

Cluster OwnDevices(const std::vector<RankedDevice>& devices, int rank) {
  std::vector<std::string> names;
  for (const RankedDevice& device : devices) {
    if (device.rank == rank) names.push_back(device.device);
  }
  Check(!names.empty(), "rank ", rank, " has no device");
  Cluster own = MachineCluster(names);
  own.nodes.front().name = MachineName(own.nodes.front().name);
  return own;
}

Cluster ClusterOfRun(const std::vector<RankedDevice>& devices, const std::vector<Cluster>& ranks) {
  Cluster cluster;
  cluster.default_link = kAssumedNetworkLink;
  std::map<std::string, int64_t> sharing;  // stages, by what they share
  for (size_t rank = 0; rank < ranks.size(); ++rank) {
    const Cluster& own = ranks[rank];
    CheckRank(devices, own, static_cast<int>(rank));
    for (const ClusterDevice& device : own.devices) ++sharing[SharedPart(own, device)];
    for (size_t other = 0; other < rank; ++other) {
      if (ranks[other].nodes.front().name != own.nodes.front().name) continue;
      cluster.links[{other, rank}] = kAssumedNodeLink;  // the same machine
    }
    cluster.nodes.push_back({std::to_string(rank), own.nodes.front().link});
  }
  std::vector<size_t> next(ranks.size(), 0);  // device of each rank
  for (const RankedDevice& stage : devices) {
    const Cluster& own = ranks[static_cast<size_t>(stage.rank)];
    ClusterDevice device = own.devices[next[static_cast<size_t>(stage.rank)]++];
    // A rank has divided what it has among its own stages already.
    const double share = static_cast<double>(device.kind == "cpu" ? Count(own, device) : 1) /
                         static_cast<double>(sharing[SharedPart(own, device)]);
    device.budget = static_cast<int64_t>(static_cast<double>(device.budget) * share);
    device.node = static_cast<size_t>(stage.rank);
    cluster.devices.push_back(std::move(device));
  }
  return cluster;
}

}  // namespace xcomposer::api
