#pragma once

#include <chrono>
#include <cmath>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/scheduler.h"
#include "engine/search.h"
#include "support/stand_in_executor.h"

namespace xcomposer::testing {

constexpr std::chrono::seconds kPatience{60};  // never reached unless something hangs

inline ExecutorLimits SmallLimits() {
  return {.vocab = 40, .kv_blocks = 200, .block_size = 4, .max_batch_rows = 16};
}

/// Constant up to `limit` rows, then growing as dynamic NTK does.
inline std::function<double(int64_t)> GrowingBase(int64_t limit) {
  return [limit](int64_t rows) {
    return rows <= limit ? 10000.0 : 10000.0 * std::pow(2.0 * rows / limit - 1.0, 128.0 / 126.0);
  };
}

inline SchedulerOptions OptionsWithBase(int64_t limit = 1 << 30) {
  SchedulerOptions options;
  options.rope_base = GrowingBase(limit);
  return options;
}

inline SearchOptions Greedy(int64_t max_new_tokens) {
  SearchOptions options;
  options.max_new_tokens = max_new_tokens;
  options.repetition_penalty = 1.05;
  return options;
}

inline Job TextJob(std::vector<int32_t> ids, SearchOptions search) {
  Job job;
  job.ids = std::move(ids);
  job.penalty_ids = {1};
  job.search = std::move(search);
  return job;
}

inline std::shared_ptr<const Picture> TestPicture(int64_t width, uint8_t shade) {
  Picture picture{width, 1, std::vector<uint8_t>(width * 3, shade)};
  return std::make_shared<const Picture>(std::move(picture));
}

/// Appends the first `rows` rows of a picture to the prompt.
inline void AppendPicture(Job* job, std::shared_ptr<const Picture> picture, int64_t rows) {
  job->spans.push_back(
      {static_cast<int64_t>(job->ids.size()), rows, static_cast<int64_t>(job->pictures.size())});
  job->ids.insert(job->ids.end(), rows, -1);
  job->pictures.push_back(std::move(picture));
}

/// What the job must give: its search over the stand-in's scores, with every history written out in
/// full and neither blocks nor batches.
inline SearchOutput Expected(const Job& job, const ExecutorLimits& limits,
                             const std::function<double(int64_t)>& rope_base) {
  using History = std::vector<std::pair<uint64_t, double>>;  // input and base of each row
  History prompt;
  for (const int32_t id : job.ids) prompt.emplace_back(TextInput(id), 0.0);
  for (const PictureSpan& span : job.spans) {
    for (int64_t row = 0; row < span.row_count; ++row) {
      prompt[span.first_row + row].first = PictureInput(*job.pictures[span.picture], row);
    }
  }
  const auto rotate = [&](History* history, size_t first) {
    const double base = rope_base(static_cast<int64_t>(history->size()));
    for (size_t row = job.text_path ? 0 : first; row < history->size(); ++row) {
      (*history)[row].second = base;
    }
  };
  rotate(&prompt, 0);
  const auto search = MakeSearch(job.search, job.penalty_ids, limits.vocab);
  std::vector<History> histories = {prompt};
  while (!histories.empty()) {
    std::vector<float> scores;
    for (const History& history : histories) {
      std::vector<uint64_t> contents;
      for (const auto& [input, base] : history) {
        contents.push_back(RowContent(input, base, job.adapter));
      }
      const std::vector<float> row = ToyScores(contents, limits.vocab);
      scores.insert(scores.end(), row.begin(), row.end());
    }
    std::vector<History> next;
    for (const Continuation& continuation : search->Advance(scores).next) {
      next.push_back(histories[continuation.parent]);
      next.back().emplace_back(TextInput(continuation.id), 0.0);
      rotate(&next.back(), next.back().size() - 1);
    }
    histories = std::move(next);
  }
  return search->Output();
}

/// All events of a job up to its last one.
struct Outcome {
  std::vector<JobEvent> events;
  std::optional<JobResult> result;
  std::optional<Error> error;
};

inline Outcome WaitFor(Scheduler& scheduler, JobId id) {
  Outcome outcome;
  for (;;) {
    std::optional<JobEvent> event = scheduler.Await(id, kPatience);
    if (!event) throw Error(ErrorKind::kInternal, "the test waited in vain");
    if (event->last()) {
      outcome.result = event->result;
      outcome.error = event->error;
      outcome.events.push_back(std::move(*event));
      return outcome;
    }
    outcome.events.push_back(std::move(*event));
  }
}

inline Outcome RunJob(Scheduler& scheduler, Job job) {
  return WaitFor(scheduler, scheduler.Submit(std::move(job)));
}

/// Tries a deadline, then ever later ones, until `attempt` says that its work began in time, which
/// on a busy machine it may not.
template <typename Attempt>
void WithADeadline(Attempt&& attempt) {
  for (std::chrono::milliseconds ahead{30}; ahead < kPatience; ahead *= 2) {
    if (attempt(std::chrono::steady_clock::now() + ahead)) return;
  }
  throw Error(ErrorKind::kInternal, "no work began before its deadline");
}

/// Holds a thread at a place until the test lets it go. Neither side waits for ever.
class Gate {
 public:
  void Pass() {  // in the thread that is held
    std::unique_lock lock(mutex_);
    ++arrived_;
    changed_.notify_all();
    changed_.wait_for(lock, kPatience, [this] { return open_ || arrived_ <= allowed_; });
  }
  void AwaitArrival(int count = 1) {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, kPatience, [&] { return arrived_ >= count; })) {
      throw Error(ErrorKind::kInternal, "the test waited in vain");
    }
  }
  void Allow(int count) {
    const std::lock_guard lock(mutex_);
    allowed_ = count;
    changed_.notify_all();
  }
  void Open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int arrived_ = 0;
  int allowed_ = 0;
  bool open_ = false;
};

}  // namespace xcomposer::testing
