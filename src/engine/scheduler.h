#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "batch/executor.h"
#include "engine/job.h"

namespace xcomposer {

struct SchedulerOptions {
  /// Base of the rotation for a sequence of that total length (model specification 6.3). Must be
  /// set, be pure, and may be called from the scheduler's thread.
  std::function<double(int64_t total_length)> rope_base;

  /// Picture features kept for later requests, in rows; the least recently used go first. Features
  /// in use are kept beyond it. 0 keeps none.
  int64_t feature_cache_rows = 16384;
};

/// A snapshot.
struct SchedulerStats {
  int64_t queued = 0;
  int64_t running = 0;
  int64_t kv_blocks = 0;
  int64_t free_kv_blocks = 0;
  int64_t cached_feature_rows = 0;
  int64_t batches = 0;  ///< run so far
  int64_t waiting = 0;  ///< threads inside Await
};

/// Runs jobs on an executor, many at a time: prompts in chunks, mixed with the next ids of the
/// others.
///
/// Every method may be called from any thread at any time; only the destructor must not run
/// together with the start of another call.
///
/// Each job gives the same ids whatever else runs. What is wrong with a job arrives as its own
/// kError event, never as an exception of Submit: kRequest (fields that make no sense), kCapacity
/// (can never fit, with numbers, before anything runs), or what the executor threw. Jobs wait in
/// order of submission while others hold the KV blocks.
class Scheduler {
 public:
  using Callback = std::function<void(const JobEvent&)>;

  /// Throws kUsage without rope_base, and kConfig for limits that allow nothing to run.
  Scheduler(std::unique_ptr<Executor> executor, SchedulerOptions options);

  /// Ends what runs at the next batch border; what is not finished gets a kError event of
  /// kCancelled. Threads that wait in Await get it too before the destructor returns. Not from a
  /// callback: the thread would wait for itself.
  ~Scheduler();

  /// Whether this is the thread that runs jobs and callbacks.
  bool IsOwnThread() const;

  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  /// Puts the job at the end of the queue. Its events wait for Await until the last one is taken,
  /// or Forget is called. Throws kCancelled after Shutdown.
  JobId Submit(Job job);

  /// The same, but events go to `callback`, on the scheduler's thread: it should be quick, may call
  /// Submit and Cancel, and must not wait for a job. If it throws, the job is cancelled.
  JobId Submit(Job job, Callback callback);

  /// The job's next event, or nothing if none comes in time. Throws kUsage for an id that was never
  /// given out, whose last event was taken, or that has a callback, and on the scheduler's own
  /// thread.
  std::optional<JobEvent> Await(JobId id, std::chrono::nanoseconds timeout);

  /// Asks the job to end; it does so at the next batch border, with kDone and what it has. False
  /// where it is over or was asked before. Throws kUsage for an id that was never given out.
  bool Cancel(JobId id);

  /// Cancels the job if it is not over, and drops its events. Throws as Cancel does.
  void Forget(JobId id);

  /// What the destructor does, except that events can still be taken afterwards.
  void Shutdown();

  SchedulerStats stats() const;
  const ExecutorLimits& limits() const;
  const std::vector<PlacedPart>& placement() const;

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace xcomposer
