#pragma once

#include <memory>
#include <vector>

#include "api/load_plan.h"
#include "api/rank_run.h"
#include "config/model_config.h"
#include "pipeline/stage_memory.h"
#include "xcomposer/engine.h"

namespace xcomposer::api {

/// What Engine::placement shows: the plan's figures, and those of the stages here as they are when
/// it is asked.
class PlacementBook {
 public:
  PlacementBook(const ModelConfig& config, const RankedMap& ranked, const LoadPlan& plan, int rank,
                std::shared_ptr<const StageMemoryBook> memory);

  PlacementReport Report() const;

 private:
  PlacementReport planned_;
  std::shared_ptr<const StageMemoryBook> memory_;
};

}  // namespace xcomposer::api
