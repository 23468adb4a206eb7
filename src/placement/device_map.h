#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "config/model_config.h"

namespace xcomposer {

/// One stage of the pipeline: a device and the layers [first_layer, end_layer) that run on it. A
/// stage without layers is allowed. Vision tower, projector, separators and token embeddings always
/// belong to the first stage, the final norm and the output to the last.
struct StagePlace {
  std::string device;  ///< "cpu", "cpu:1", "cuda:0"; in a cluster "node/cuda:0"
  int64_t first_layer = 0;
  int64_t end_layer = 0;

  friend bool operator==(const StagePlace&, const StagePlace&) = default;
};

/// Which part of the model runs where: contiguous blocks of layers, in order.
struct DeviceMap {
  std::vector<StagePlace> stages;

  friend bool operator==(const DeviceMap&, const DeviceMap&) = default;
};

/// As many layers on each device as on any other, give or take one; earlier devices get the smaller
/// share, since the first one also holds the vision tower. Naming a device twice makes two stages
/// on it. Throws kPlan for an empty list, kDevice for a name that is none.
DeviceMap EvenDeviceMap(const ModelConfig& config, const std::vector<std::string>& devices);

/// Throws kPlan unless the stages cover all layers once and in order, kDevice for a name that is
/// none.
void CheckDeviceMap(const DeviceMap& map, const ModelConfig& config);

/// The same without looking at the devices' names, for clusters that name theirs as they like.
void CheckStages(const DeviceMap& map, const ModelConfig& config);

/// Whether `name` is cpu, cpu:N or cuda:N.
bool IsDeviceName(const std::string& name);

/// Throws kDevice unless `name` is one, alone or behind "node/".
void CheckDeviceName(const std::string& name);

/// The modules of a stage by their checkpoint names, in the order of computation.
std::vector<std::string> ModulesOfStage(const DeviceMap& map, const ModelConfig& config,
                                        size_t stage);

/// The modules that must lie on the first device, and those of the last.
std::vector<std::string> FirstModules(const ModelConfig& config);
std::vector<std::string> LastModules();

}  // namespace xcomposer
