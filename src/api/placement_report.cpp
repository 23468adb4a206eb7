#include "api/placement_report.h"

#include <utility>

namespace xcomposer::api {

PlacementBook::PlacementBook(const ModelConfig& config, const RankedMap& ranked,
                             const LoadPlan& plan, int rank,
                             std::shared_ptr<const StageMemoryBook> memory)
    : memory_(std::move(memory)) {
  for (size_t i = 0; i < ranked.map.stages.size(); ++i) {
    StagePlacement stage;
    stage.stage = static_cast<int>(i);
    stage.rank = ranked.rank_of_stage[i];
    stage.device = ranked.map.stages[i].device;
    stage.modules = ModulesOfStage(ranked.map, config, i);
    if (i < plan.planned.size()) stage.planned = plan.planned[i];
    stage.measured_here = stage.rank == rank;
    planned_.stages.push_back(std::move(stage));
  }
  JoinReport& join = planned_.join;
  join.picture_device = join.text_device = planned_.stages.front().device;
  join.type = "float32";
  join.width = config.hidden_size;
}

PlacementReport PlacementBook::Report() const {
  PlacementReport report = planned_;
  size_t here = 0;
  for (StagePlacement& stage : report.stages) {
    if (!stage.measured_here || here == memory_->size()) continue;
    const StageMemory& memory = (*memory_)[here++];
    stage.weights = memory.weights;
    stage.kv = memory.kv;
    stage.activations = memory.activations;
    stage.vision = memory.vision;
    if (stage.stage > 0) continue;
    report.join.joins = memory.joins;
    report.join.rows = memory.joined_rows;
  }
  return report;
}

}  // namespace xcomposer::api
