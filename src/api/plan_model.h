#pragma once

#include <string>

#include "checkpoint/checkpoint.h"
#include "config/model_config.h"
#include "placement/weight_type.h"

namespace xcomposer::api {

/// What is known of a model that need not be there but for its config.json.
struct PlanSubject {
  ModelConfig config;
  WeightType stored = WeightType::kBFloat16;
};

/// A config.json, a folder with one, or a repository id in the local cache. Weight files that are
/// there decide on kind and ranks by their headers. Throws kConfig, kCheckpoint.
PlanSubject ReadPlanSubject(const std::string& model, const std::string& kind);

/// The format of most of the checkpoint's bytes.
WeightType StoredType(const WeightHeaders& headers);

}  // namespace xcomposer::api
