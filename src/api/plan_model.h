#pragma once

#include <string>

#include "checkpoint/checkpoint.h"
#include "config/model_config.h"
#include "placement/weight_type.h"

namespace xcomposer::api {

/// How a checkpoint stores its weights.
struct StoredWeights {
  WeightType type = WeightType::kBFloat16;     ///< of most numbers that are not quantised
  WeightType linears = WeightType::kBFloat16;  ///< of most of those that bf12 could pack
  bool bf12 = false;                           ///< some of these are in 12 bits already
};

/// What is known of a model that need not be there but for its config.json.
struct PlanSubject {
  ModelConfig config;
  StoredWeights stored;
};

/// A config.json, a folder with one, or a repository id in the local cache. Weight files that are
/// there decide on kind and ranks by their headers. Throws kConfig, kCheckpoint.
PlanSubject ReadPlanSubject(const std::string& model, const std::string& kind);

/// From the headers of the weights that a checkpoint with this configuration has.
StoredWeights StoredWeightsOf(const WeightHeaders& headers, const ModelConfig& config);

}  // namespace xcomposer::api
