#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "batch/executor.h"
#include "engine/batch_planner.h"
#include "engine/feature_cache.h"
#include "engine/job_run.h"
#include "engine/kv_blocks.h"
#include "engine/mailbox.h"

namespace xcomposer {

/// Runs the jobs of a mailbox on an executor: batch after batch, each with rows of as many jobs as
/// fit. Where the executor has several stages, the answers are spread over as many batches, and one
/// more is kept waiting, so that no stage runs dry: the chunks of one prompt follow each other into
/// the pipeline, but a sequence whose next id is not known yet is in one batch only. Not
/// thread-safe: it belongs to one thread.
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
  /// Ends a run before it is done, for the reason there is.
  void EndEarly(JobRun* run);
  void EndCancelledAndLate(const std::vector<JobId>& cancelled);
  void Admit();
  void EncodeOnePicture();

  /// A batch between Submit and Collect. `run` of a part is empty once its job is over: then nobody
  /// waits for these rows any more.
  struct Flight {
    std::vector<BatchPart> parts;
    int64_t scores = 0;  // rows
    bool all_logits = false;
    bool only_ids = false;  // the executor may choose
    bool has_answers = false;
    StopTest unwanted = {};  // its jobs are all to end
  };

  /// False where no job has rows to run.
  bool SubmitBatch();
  std::optional<Error> Submit(std::vector<BatchPart> parts);
  /// Takes the oldest batch in flight; its rows are committed unless something went wrong.
  std::optional<Error> Collect(Flight* flight);
  void CollectBatch();
  void Commit(const Flight& flight, const Logits& logits);
  void Recover(const Error& error, Flight failed);
  /// Whether a batch ended because nobody wants its results. Its jobs are over then.
  bool EndedUnwanted(const Error& error, const Flight& flight);
  /// Keeps the rows of a failed batch, and what follows them, for RunAgain.
  void SetAside(Flight failed);
  void RunAgain();

  void SettleAll(const Flight& flight);
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
  const BatchPlanner planner_;
  std::deque<RunPtr> queue_;                  // waiting for blocks, in order of submission
  std::vector<RunPtr> running_;               // in order of admission
  std::deque<Flight> flights_;                // in order of submission
  std::deque<std::vector<BatchPart>> again_;  // of failed batches, of one job each
  int64_t reserved_blocks_ = 0;
  int64_t batches_ = 0;
};

}  // namespace xcomposer
