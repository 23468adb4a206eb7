#include "workers/layout.h"

#include <utility>

#include "base/check.h"

namespace xcomposer {

StageLayout::StageLayout(std::vector<int> rank_of_stage, int world_size)
    : world_size_(world_size),
      rank_of_stage_(std::move(rank_of_stage)),
      first_stage_(static_cast<size_t>(world_size), -1),
      end_stage_(static_cast<size_t>(world_size), -1) {
  Require(!rank_of_stage_.empty(), ErrorKind::kPlan, "no stage was placed");
  Require(rank_of_stage_.front() == 0, ErrorKind::kPlan, "rank ", rank_of_stage_.front(),
          " was given the first stage; it must be on rank 0, which takes the requests and encodes"
          " their pictures");
  for (int stage = 0; stage < stages(); ++stage) {
    const int rank = rank_of(stage);
    Require(rank >= 0 && rank < world_size, ErrorKind::kPlan, "stage ", stage,
            " was given to rank ", rank, ", the run has ranks 0 to ", world_size - 1);
    int& first = first_stage_[static_cast<size_t>(rank)];
    int& end = end_stage_[static_cast<size_t>(rank)];
    Require(first < 0 || end == stage, ErrorKind::kPlan, "rank ", rank, " was given the stages ",
            first, " and ", stage,
            " but not those between; the stages of a rank must follow each"
            " other");
    if (first < 0) first = stage;
    end = stage + 1;
  }
  for (int rank = 0; rank < world_size; ++rank) {
    Require(first_stage(rank) >= 0, ErrorKind::kPlan, "rank ", rank,
            " was given no stage; name a device of it, or start fewer processes");
  }
}

int StageLayout::position(int rank) const {
  int before = 0;
  for (const int first : first_stage_) before += first < first_stage(rank) ? 1 : 0;
  return before;
}

std::string StageLayout::StagesOf(int rank) const {
  const int first = first_stage(rank);
  const int last = end_stage(rank) - 1;
  return first == last ? StrCat("stage ", first) : StrCat("stages ", first, " to ", last);
}

StageLayout LocalLayout(int stages) {
  return StageLayout(std::vector<int>(static_cast<size_t>(stages), 0), 1);
}

}  // namespace xcomposer
