#include "engine/mailbox.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/log.h"

namespace xcomposer {

JobId Mailbox::Post(Job job, Callback callback) {
  const Lock lock(mutex_);
  Require(!intake_.closed, ErrorKind::kCancelled,
          "the engine is shutting down and takes no requests");
  const JobId id = next_id_++;
  Record& record = records_[id];
  if (callback) record.callback = std::make_shared<const Callback>(std::move(callback));
  intake_.letters.push_back({id, std::move(job), Clock::now(), record.unwanted});
  for_driver_.notify_one();
  return id;
}

void Mailbox::RequireGivenOut(JobId id) const {
  Require(id > 0 && id < next_id_, ErrorKind::kUsage, "job ", id, " was never submitted here");
}

std::optional<JobEvent> Mailbox::TakeEvent(JobId id) {
  RequireGivenOut(id);
  const auto found = records_.find(id);
  Require(found != records_.end() && !found->second.forgotten, ErrorKind::kUsage, "job ", id,
          " has no more events: its last one was taken, or it was forgotten");
  Record& record = found->second;
  Require(record.callback == nullptr, ErrorKind::kUsage, "the events of job ", id,
          " go to its callback");
  if (record.events.empty()) return std::nullopt;
  JobEvent event = std::move(record.events.front());
  record.events.pop_front();
  if (event.last()) records_.erase(found);
  return event;
}

std::optional<JobEvent> Mailbox::Await(JobId id, std::chrono::nanoseconds timeout) {
  // A caller may mean "for ever" by the largest duration; added to now it would overflow.
  constexpr std::chrono::nanoseconds kLongest = std::chrono::hours(24 * 365);
  const Clock::time_point until =
      Clock::now() + std::clamp(timeout, std::chrono::nanoseconds::zero(), kLongest);
  Lock lock(mutex_);
  ++waiting_;
  struct Leave {
    Mailbox* mailbox;
    ~Leave() {
      if (--mailbox->waiting_ == 0) mailbox->for_callers_.notify_all();
    }
  } leave{this};  // before `lock` goes, so the count is guarded
  std::optional<JobEvent> event = TakeEvent(id);
  while (!event) {
    const bool late = for_callers_.wait_until(lock, until) == std::cv_status::timeout;
    event = TakeEvent(id);
    if (late) break;
  }
  return event;
}

bool Mailbox::AskToCancel(JobId id, Record* record) {
  if (record->over || record->cancel_asked) return false;
  record->cancel_asked = true;
  *record->unwanted = true;
  intake_.cancelled.push_back(id);
  for_driver_.notify_one();
  return true;
}

bool Mailbox::Cancel(JobId id) {
  const Lock lock(mutex_);
  RequireGivenOut(id);
  const auto found = records_.find(id);
  return found != records_.end() && AskToCancel(id, &found->second);
}

void Mailbox::Forget(JobId id) {
  Records::node_type over;  // as in Deliver
  const Lock lock(mutex_);
  RequireGivenOut(id);
  const auto found = records_.find(id);
  if (found == records_.end()) return;
  AskToCancel(id, &found->second);
  if (found->second.over) {
    over = records_.extract(found);
  } else {
    found->second.forgotten = true;
    found->second.events.clear();
  }
  for_callers_.notify_all();
}

SchedulerStats Mailbox::stats() const {
  const Lock lock(mutex_);
  SchedulerStats stats = stats_;
  stats.queued += static_cast<int64_t>(intake_.letters.size());
  stats.waiting = waiting_;
  return stats;
}

void Mailbox::Close() {
  const Lock lock(mutex_);
  intake_.closed = true;
  for (auto& [id, record] : records_) *record.unwanted = true;
  for_driver_.notify_one();
}

bool Mailbox::closed() const {
  const Lock lock(mutex_);
  return intake_.closed;
}

void Mailbox::WaitUntilNobodyWaits() {
  Lock lock(mutex_);
  for_callers_.notify_all();
  for_callers_.wait(lock, [this] { return waiting_ == 0; });
}

Mailbox::Intake Mailbox::Collect(bool wait) {
  Lock lock(mutex_);
  if (wait) {
    for_driver_.wait(lock, [this] {
      return intake_.closed || !intake_.letters.empty() || !intake_.cancelled.empty();
    });
  }
  Intake taken = std::exchange(intake_, {});
  intake_.closed = taken.closed;
  return taken;
}

void Mailbox::Deliver(JobEvent event) {
  const JobId id = event.job;
  const bool last = event.last();
  // What a callback holds may call the engine as it is destroyed, so that is after the lock.
  std::shared_ptr<const Callback> callback;
  Records::node_type over;
  Lock lock(mutex_);
  const auto found = records_.find(id);
  Check(found != records_.end(), "an event of job ", id, ", which is over");
  Record& record = found->second;
  record.over = last;
  if (last) *record.unwanted = true;
  if (!record.forgotten && record.callback == nullptr) {
    record.events.push_back(std::move(event));
    for_callers_.notify_all();
    return;
  }
  if (!record.forgotten) {
    // Unlocked, so that the callback may submit and cancel.
    callback = record.callback;
    lock.unlock();
    try {
      (*callback)(event);
    } catch (const std::exception& error) {
      log::Warn("the callback of job ", id, " failed, the job is cancelled: ", error.what());
      if (!last) Cancel(id);
    } catch (...) {
      log::Warn("the callback of job ", id, " failed, the job is cancelled");
      if (!last) Cancel(id);
    }
    lock.lock();
  }
  if (last) {
    over = records_.extract(id);
    for_callers_.notify_all();
  }
}

void Mailbox::Publish(const SchedulerStats& stats) {
  const Lock lock(mutex_);
  stats_ = stats;
}

}  // namespace xcomposer
