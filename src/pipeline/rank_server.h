#pragma once

#include <functional>

#include "checkpoint/checkpoint.h"
#include "config/model_config.h"
#include "model/weight_scope.h"
#include "pipeline/pipeline_options.h"
#include "placement/device_map.h"

namespace xcomposer {

/// A rank other than 0 of a pipeline over several processes: loads its stages, waits until all
/// ranks have theirs, and runs them until rank 0 ends the run. `stop` as Follower::Serve has it.
/// Throws as Pipeline's constructor, and the reason why the run ended otherwise.
void ServeStages(const Checkpoint& checkpoint, const ModelConfig& config, const DeviceMap& map,
                 const PipelineOptions& options, const std::function<bool()>& stop);

/// The same from any source of weights.
void ServeStages(WeightSource& weights, const ModelConfig& config, const DeviceMap& map,
                 const PipelineOptions& options, const std::function<bool()>& stop);

}  // namespace xcomposer
