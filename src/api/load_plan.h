#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "api/picture_budget.h"
#include "api/plan_model.h"
#include "placement/cluster.h"
#include "placement/device_map.h"
#include "placement/footprint.h"
#include "xcomposer/engine.h"

namespace xcomposer::api {

/// How a checkpoint is loaded: the same formula that `xcomposer plan` shows, on this machine.
struct LoadPlan {
  DeviceMap map;
  std::vector<PlanBytes> planned;  ///< by stage
  std::vector<int64_t> budgets;    ///< by stage; empty where the caller overrode what fits
  int64_t kv_positions = 0;
  int64_t feature_rows = 0;               ///< that the engine may keep of pictures
  std::optional<PictureBudget> pictures;  ///< absent where the caller overrode what fits
};

/// In a run over several processes: the whole map, and which of its stages are in this one.
struct StagesHere {
  DeviceMap map;
  int first = 0;
  int end = 0;
  std::vector<int64_t> budgets;  ///< by stage: what it may use at most
};

/// Places the model on the devices of `options` (every one gets a stage) or takes the map given
/// there. The KV pool holds several sequences of full length where memory allows, one of less
/// where it does not. `stored`: the type of the checkpoint's weights. Throws kCapacity with numbers
/// where not even that fits, kPlan, kDevice.
LoadPlan PlanLoad(const EngineOptions& options, const ModelConfig& config,
                  const StoredWeights& stored);

/// Which layers go to which device of a run over several processes: a stage for each, in the order
/// of the cluster. Throws kCapacity, naming the device and its rank.
DeviceMap PlanRun(const EngineOptions& options, const ModelConfig& config,
                  const StoredWeights& stored, const Cluster& cluster);

/// The same for the stages here of a map that is given; the other processes answer for theirs.
LoadPlan PlanLoad(const EngineOptions& options, const ModelConfig& config,
                  const StoredWeights& stored, const StagesHere& here);

}  // namespace xcomposer::api
