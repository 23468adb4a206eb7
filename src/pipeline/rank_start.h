#pragma once

#include <functional>
#include <vector>

#include "batch/executor.h"
#include "config/model_config.h"
#include "pipeline/pipeline_options.h"
#include "placement/device_map.h"
#include "transport/transport.h"

namespace xcomposer {

/// Does this rank's part of starting the run and waits until every rank has done its own. What
/// `work` throws ends the run on every rank, naming this one; the error of another rank is thrown
/// here.
void StartTogether(Transport& transport, const std::vector<int>& rank_of_stage,
                   const std::function<void()>& work);

/// What all ranks of a pipeline derive alike.
ExecutorLimits LimitsOf(const ModelConfig& config, const DeviceMap& map,
                        const PipelineOptions& options);

}  // namespace xcomposer
