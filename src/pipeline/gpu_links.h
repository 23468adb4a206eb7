#pragma once

#include "pipeline/pipeline_options.h"
#include "pipeline/stage_device.h"
#include "workers/layout.h"
#include "workers/row_link.h"

namespace xcomposer {

/// The ways by NCCL to the devices of this rank's first and last stage, from and to the ranks
/// beside it. One is absent where one of its two ends is no GPU, where both are the same one (NCCL
/// refuses it), and where a build has no NCCL: rows then go through the host's memory. Every rank
/// of the run calls this at the same time, its weights loaded. Throws what ended the run.
RowLinks ConnectGpus(const PipelineOptions& options, const StageLayout& layout, StageDevice& first,
                     StageDevice& last);

}  // namespace xcomposer
