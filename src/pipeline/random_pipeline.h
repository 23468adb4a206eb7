#pragma once

#include <memory>

#include "config/model_config.h"
#include "pipeline/pipeline.h"
#include "pipeline/pipeline_options.h"
#include "placement/device_map.h"

namespace xcomposer {

/// A pipeline whose weights are drawn instead of read, to measure a size without its checkpoint:
/// in the storage that `options` ask for (bfloat16 where as stored), the decoder's linears in the
/// packing of `config.quantization`. All stages in this process. Throws as Pipeline's constructor.
std::unique_ptr<Pipeline> DrawPipeline(const ModelConfig& config, const DeviceMap& map,
                                       const PipelineOptions& options);

}  // namespace xcomposer
