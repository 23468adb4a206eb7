#pragma once

#include <functional>
#include <optional>

#include "batch/batch.h"
#include "batch/executor.h"
#include "config/model_config.h"

namespace xcomposer {

/// Checks a batch before anything runs. Throws kRequest for token ids outside the vocabulary and
/// adapters that the checkpoint lacks, kInternal for what the scheduler must have got wrong: rows
/// that no sequence owns, block tables that end early, spans out of order, unknown features.
/// `feature_rows` tells how many rows a feature has, or nothing where it is unknown.
void CheckBatch(const Batch& batch, const ModelConfig& config, const ExecutorLimits& limits,
                const std::function<std::optional<int64_t>(FeatureHandle)>& feature_rows);

}  // namespace xcomposer
