#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "batch/executor.h"
#include "engine/feature_cache.h"
#include "engine/job_run.h"
#include "engine/kv_blocks.h"
#include "engine/mailbox.h"

namespace xcomposer {

/// Runs the jobs of a mailbox on an executor: one batch after the other, each with rows of as many
/// jobs as fit. Not thread-safe: it belongs to one thread.
class Driver {
 public:
  /// `executor`, `options` and `mailbox` must live longer.
  Driver(Executor* executor, const SchedulerOptions& options, Mailbox* mailbox);
  Driver(const Driver&) = delete;
  Driver& operator=(const Driver&) = delete;

  /// Until the mailbox is closed; then every job gets its last event.
  void Run();

 private:
  using Clock = std::chrono::steady_clock;
  using RunPtr = std::unique_ptr<JobRun>;

  bool Step();
  void Accept(Mailbox::Letter letter);
  void EndCancelledAndLate(const std::vector<JobId>& cancelled);
  void Admit();
  void EncodeOnePicture();

  void RunBatch();
  std::vector<BatchPart> PlanBatch();
  /// Adds rows of `runs` to `parts`, which then has `most` rows at most.
  void TakeRows(const std::vector<JobRun*>& runs, int64_t most, std::vector<BatchPart>* parts);
  void Execute(const std::vector<BatchPart>& parts);
  void Recover(const Error& error, const std::vector<BatchPart>& parts);

  void Settle(JobRun* run);
  void Finish(JobRun* run, JobFinish finish);
  void Fail(JobRun* run, const Error& error);
  void FailAll(const Error& error);
  void Deliver(JobRun* run);
  void Remove(JobRun* run);
  void Publish();

  Executor* executor_;
  Mailbox* mailbox_;
  ExecutorLimits limits_;
  BlockPool blocks_;
  FeatureCache features_;
  RunContext context_;
  std::deque<RunPtr> queue_;     // waiting for blocks, in order of submission
  std::vector<RunPtr> running_;  // in order of admission
  int64_t reserved_blocks_ = 0;
  int64_t batches_ = 0;
};

}  // namespace xcomposer
