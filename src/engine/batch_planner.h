#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "batch/executor.h"
#include "engine/batch_part.h"
#include "engine/job_run.h"

namespace xcomposer {

/// Decides whose rows make the next batch: answers first, spread over as many batches as there are
/// stages; prompts take what is left. A sequence whose next id is not known yet gives nothing.
class BatchPlanner {
 public:
  /// Called for a job that failed to give its rows; it may remove the job.
  using OnError = std::function<void(JobRun*, const Error&)>;

  BatchPlanner(const ExecutorLimits& limits, OnError fail);

  /// Takes the rows out of the jobs. `answers_on_their_way`: batches in flight that hold answers;
  /// `batches`: how many there have been, as JobRun::last_served counts them.
  std::vector<BatchPart> Plan(const std::vector<std::unique_ptr<JobRun>>& running,
                              int64_t answers_on_their_way, int64_t batches) const;

 private:
  /// Rows of answers that the next batch may take, so that all stages get some.
  int64_t ShareOfAnswers(const std::vector<JobRun*>& answers, int64_t on_their_way) const;
  /// Adds rows of `runs` to `parts`, `most` at most.
  void TakeRows(const std::vector<JobRun*>& runs, int64_t most,
                std::vector<BatchPart>* parts) const;

  const ExecutorLimits limits_;
  const OnError fail_;
};

}  // namespace xcomposer
