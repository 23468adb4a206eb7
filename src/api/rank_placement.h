#pragma once

#include <cstdint>
#include <vector>

#include "api/plan_model.h"
#include "api/rank_run.h"
#include "config/model_config.h"
#include "transport/transport.h"

namespace xcomposer::api {

/// Where the stages of a run over several processes go, the same on every rank.
struct RunPlacement {
  RankedMap ranked;
  std::vector<int64_t> budgets;  ///< by stage: bytes of its device that it may use
};

/// Every rank tells rank 0 what its devices have; rank 0 plans, unless the map is given, and tells
/// all. Every rank must call it, once, after AgreeOnModel. Throws kCapacity where the model fits
/// nowhere, kDevice, kPlan, and what ends the run.
RunPlacement PlaceTogether(Transport& transport, const AskedPlacement& asked,
                           const EngineOptions& options, const ModelConfig& config,
                           const StoredWeights& stored);

}  // namespace xcomposer::api
