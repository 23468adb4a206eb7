#include "engine/batch_planner.h"

#include <algorithm>
#include <utility>

#include "base/current_error.h"

namespace xcomposer {

BatchPlanner::BatchPlanner(const ExecutorLimits& limits, OnError fail)
    : limits_(limits), fail_(std::move(fail)) {}

std::vector<BatchPart> BatchPlanner::Plan(const std::vector<std::unique_ptr<JobRun>>& running,
                                          int64_t answers_on_their_way, int64_t batches) const {
  std::vector<JobRun*> answers;  // one new row per sequence
  std::vector<JobRun*> prompts;
  JobRun* alone = nullptr;
  for (const std::unique_ptr<JobRun>& run : running) {
    if (run->HasPictures() || run->pending_rows() == 0) continue;
    if (run->WantsBatchAlone()) {
      if (alone == nullptr) alone = run.get();
    } else {
      (run->prefilling() ? prompts : answers).push_back(run.get());
    }
  }
  std::vector<BatchPart> parts;
  // A job that must be alone takes turns with all others.
  const bool its_turn = alone != nullptr && alone->last_served < batches;
  if (!its_turn) {
    // Answers first, those that waited longest before the others; prompts take what is left, in
    // order of admission, and never nothing.
    std::stable_sort(answers.begin(), answers.end(), [](const JobRun* a, const JobRun* b) {
      return a->last_served < b->last_served;
    });
    const int64_t rows = limits_.max_batch_rows;
    const int64_t kept_for_prompts = prompts.empty() || rows == 1 ? 0 : 1;
    TakeRows(answers,
             std::min(rows - kept_for_prompts, ShareOfAnswers(answers, answers_on_their_way)),
             &parts);
    TakeRows(prompts, rows, &parts);
  }
  if (parts.empty() && alone != nullptr) TakeRows({alone}, limits_.max_batch_rows, &parts);
  return parts;
}

int64_t BatchPlanner::ShareOfAnswers(const std::vector<JobRun*>& answers,
                                     int64_t on_their_way) const {
  int64_t rows = 0;
  for (const JobRun* run : answers) rows += run->pending_rows();
  const int64_t free_stages = std::max<int64_t>(1, limits_.stages - on_their_way);
  return (rows + free_stages - 1) / free_stages;
}

void BatchPlanner::TakeRows(const std::vector<JobRun*>& runs, int64_t most,
                            std::vector<BatchPart>* parts) const {
  for (const BatchPart& part : *parts) most -= part.slice.row_count;
  for (JobRun* run : runs) {
    if (most <= 0) return;
    try {
      for (BatchPart& part : run->TakeRows(most)) {
        most -= part.slice.row_count;
        parts->push_back(std::move(part));
      }
    } catch (...) {
      fail_(run, CurrentError());
    }
  }
}

}  // namespace xcomposer
