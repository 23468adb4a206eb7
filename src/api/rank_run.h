#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "config/model_config.h"
#include "pipeline/pipeline_options.h"
#include "placement/device_map.h"
#include "transport/transport.h"
#include "xcomposer/engine.h"

namespace xcomposer::api {

/// A device map whose stages know their ranks.
struct RankedMap {
  DeviceMap map;
  std::vector<int> rank_of_stage;
};

/// A device and the rank that has it.
struct RankedDevice {
  int rank = 0;
  std::string device;  ///< as the rank itself calls it
};

/// Takes the nodes off devices such as "1:cuda:0", "rank1:cpu" or "a/cuda:0"; all or none must have
/// one. Numbers are ranks; other names are the ranks 0, 1, ... in order of their first appearance.
/// Throws kPlan.
std::vector<RankedDevice> RankDevices(const std::vector<std::string>& devices);

/// The devices of a run of this process alone, without their rank or node, which must be rank 0.
/// `named_by` begins the message ("the device map 'x' names"). Throws kPlan, which says how to
/// start the others.
std::vector<std::string> DevicesOfOneProcess(const std::vector<std::string>& devices,
                                             const std::string& named_by);

/// Whether the device names a node or rank.
bool NamesNode(const std::string& device);

/// The devices of every rank of the run: themselves where they name ranks, else `devices` once for
/// each rank, rank 0's first.
std::vector<RankedDevice> DevicesOfRun(const std::vector<std::string>& devices, int world_size);

/// What the options say about the stages of the run.
struct AskedPlacement {
  std::vector<RankedDevice> devices;  ///< by stage
  std::optional<DeviceMap> map;       ///< which layers they get; absent: that is to be planned
};

/// The map that `options` name, whose devices say their ranks, or a stage for every device. Throws
/// kPlan, and kDevice where a device has no kernels for what the options ask.
AskedPlacement AskedOfRun(const EngineOptions& options, const ModelConfig& config, int world_size);

/// Whether the options, or the variables that they allow, speak of several processes. Throws as
/// RankOf.
bool IsDistributed(const RankOptions& options);

/// Connects this process to the other ranks of the run, or gives nothing where it is alone. Throws
/// as ConnectRanks. `stop`: see TransportOptions.
std::shared_ptr<Transport> JoinRun(const RankOptions& options, const std::function<bool()>& stop);

/// What the ranks must have in common: version, what they were told about the plan, configuration
/// and weights. Throws kRank naming the first rank that differs and the field, on every rank.
void AgreeOnModel(Transport& transport, const Checkpoint& checkpoint, const AskedPlacement& asked,
                  const PipelineOptions& pipeline);

}  // namespace xcomposer::api
