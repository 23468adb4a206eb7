#pragma once

#include <string>

#include "api/model_loader.h"
#include "api/plan_model.h"

namespace xcomposer::api {

/// The model that weights are drawn for: the published size of a kind where `model` is the name of
/// one, else the config.json or folder that it is. Throws kConfig for anything else, and as
/// ReadPlanSubject does.
PlanSubject ReadRandomSubject(const std::string& model);

/// A model with random weights instead of a checkpoint's. Throws kUsage in a run of several
/// processes and where weights that are quantised already should be quantised, else as LoadModel.
LoadedModel DrawModel(const EngineOptions& options);

}  // namespace xcomposer::api
