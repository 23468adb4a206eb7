#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "engine/job.h"
#include "engine/scheduler.h"

namespace xcomposer {

/// Between the threads that submit and await jobs and the one that runs them: the only state that
/// they share. Every method may be called from any thread; Collect, Deliver and Publish belong to
/// the one that runs the jobs.
class Mailbox {
 public:
  using Clock = std::chrono::steady_clock;
  using Callback = Scheduler::Callback;

  struct Letter {
    JobId id = 0;
    Job job;
    Clock::time_point submitted;
    std::shared_ptr<const std::atomic<bool>> unwanted;  ///< becomes true; see Mailbox::Collect
  };
  struct Intake {
    std::vector<Letter> letters;   ///< in order of submission
    std::vector<JobId> cancelled;  ///< may name jobs that are over
    bool closed = false;           ///< nothing will come any more
  };

  /// See Scheduler. `callback` may be empty: then events wait for Await.
  JobId Post(Job job, Callback callback);
  std::optional<JobEvent> Await(JobId id, std::chrono::nanoseconds timeout);
  bool Cancel(JobId id);
  void Forget(JobId id);
  SchedulerStats stats() const;

  /// No more letters.
  void Close();

  /// Returns when no thread is in Await any more; every job must have had its last event.
  void WaitUntilNobodyWaits();

  bool closed() const;

  /// What came since the last call. With `wait`, blocks until there is something. `unwanted` of a
  /// letter becomes true once its job is cancelled, is over, or the mailbox is closed; whoever
  /// works for the job may read it from any thread, also after the mailbox is gone.
  Intake Collect(bool wait);
  void Deliver(JobEvent event);
  void Publish(const SchedulerStats& stats);

 private:
  struct Record {
    std::shared_ptr<const Callback> callback;  // none: events wait
    std::deque<JobEvent> events;
    std::shared_ptr<std::atomic<bool>> unwanted = std::make_shared<std::atomic<bool>>(false);
    bool cancel_asked = false;
    bool over = false;       // the last event is among `events`
    bool forgotten = false;  // events are dropped
  };
  using Lock = std::unique_lock<std::mutex>;
  using Records = std::map<JobId, Record>;

  void RequireGivenOut(JobId id) const;
  bool AskToCancel(JobId id, Record* record);
  std::optional<JobEvent> TakeEvent(JobId id);

  mutable std::mutex mutex_;  // guards everything below
  std::condition_variable for_driver_;
  std::condition_variable for_callers_;
  JobId next_id_ = 1;
  Records records_;  // jobs whose last event is still to come or to be taken
  Intake intake_;
  SchedulerStats stats_;
  int64_t waiting_ = 0;
};

}  // namespace xcomposer
