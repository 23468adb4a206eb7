#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace xcomposer {

/// Which rank drives which stage.
class StageLayout {
 public:
  /// `rank_of_stage` by stage. Throws kPlan unless rank 0 drives the first stage, every rank below
  /// `world_size` drives at least one, and the stages of a rank follow each other: pictures are
  /// encoded where requests come in, and there is one link between two ranks.
  StageLayout(std::vector<int> rank_of_stage, int world_size);

  int world_size() const { return world_size_; }
  int stages() const { return static_cast<int>(rank_of_stage_.size()); }
  int rank_of(int stage) const { return rank_of_stage_[static_cast<size_t>(stage)]; }
  /// Of the rank in the order of its stages, from 0.
  int position(int rank) const;
  int last_rank() const { return rank_of_stage_.back(); }
  int first_stage(int rank) const { return first_stage_[static_cast<size_t>(rank)]; }
  int end_stage(int rank) const { return end_stage_[static_cast<size_t>(rank)]; }

  /// "stage 1" or "stages 1 to 3", for messages.
  std::string StagesOf(int rank) const;

 private:
  int world_size_;
  std::vector<int> rank_of_stage_;
  std::vector<int> first_stage_;  // by rank
  std::vector<int> end_stage_;    // by rank
};

/// All stages in one process.
StageLayout LocalLayout(int stages);

}  // namespace xcomposer
