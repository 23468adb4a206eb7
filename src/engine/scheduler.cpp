#include "engine/scheduler.h"

#include <mutex>
#include <thread>
#include <utility>

#include "base/check.h"
#include "engine/driver.h"
#include "engine/mailbox.h"

namespace xcomposer {
namespace {

std::unique_ptr<Executor> Checked(std::unique_ptr<Executor> executor,
                                  const SchedulerOptions& options) {
  Require(executor != nullptr, ErrorKind::kUsage, "the scheduler needs an executor");
  Require(static_cast<bool>(options.rope_base), ErrorKind::kUsage,
          "SchedulerOptions::rope_base is not set");
  const ExecutorLimits& limits = executor->limits();
  const auto require = [](int64_t found, const char* what) {
    Require(found > 0 && found <= INT32_MAX, ErrorKind::kConfig, "the executor's ", what, " is ",
            found, ", expected 1 to ", INT32_MAX);
  };
  require(limits.vocab, "vocabulary");
  require(limits.kv_blocks, "number of KV blocks");
  require(limits.block_size, "KV block size");
  require(limits.max_batch_rows, "number of rows of a batch");
  return executor;
}

}  // namespace

/// In order of construction: the driver uses all that stands above it.
struct Scheduler::Parts {
  Parts(std::unique_ptr<Executor> checked_executor, SchedulerOptions scheduler_options)
      : executor(std::move(checked_executor)),
        limits(executor->limits()),
        placement(executor->placement()),
        options(std::move(scheduler_options)),
        driver(executor.get(), options, &mailbox),
        thread([this] { driver.Run(); }),
        thread_id(thread.get_id()) {}

  std::unique_ptr<Executor> executor;
  const ExecutorLimits limits;
  const std::vector<PlacedPart> placement;
  const SchedulerOptions options;
  Mailbox mailbox;
  Driver driver;  // used by `thread` alone
  std::thread thread;
  const std::thread::id thread_id;
  std::once_flag joined;
};

Scheduler::Scheduler(std::unique_ptr<Executor> executor, SchedulerOptions options) {
  executor = Checked(std::move(executor), options);
  parts_ = std::make_unique<Parts>(std::move(executor), std::move(options));
}

Scheduler::~Scheduler() {
  Shutdown();
  parts_->mailbox.WaitUntilNobodyWaits();
}

JobId Scheduler::Submit(Job job) { return parts_->mailbox.Post(std::move(job), {}); }

JobId Scheduler::Submit(Job job, Callback callback) {
  Require(static_cast<bool>(callback), ErrorKind::kUsage, "the callback is empty");
  return parts_->mailbox.Post(std::move(job), std::move(callback));
}

std::optional<JobEvent> Scheduler::Await(JobId id, std::chrono::nanoseconds timeout) {
  Require(!IsOwnThread(), ErrorKind::kUsage,
          "a callback must not wait for a job: it would wait for itself");
  return parts_->mailbox.Await(id, timeout);
}

bool Scheduler::Cancel(JobId id) { return parts_->mailbox.Cancel(id); }

void Scheduler::Forget(JobId id) { parts_->mailbox.Forget(id); }

void Scheduler::Shutdown() {
  parts_->mailbox.Close();
  if (IsOwnThread()) return;  // from a callback: nobody to wait for
  std::call_once(parts_->joined, [this] { parts_->thread.join(); });
}

bool Scheduler::IsOwnThread() const { return std::this_thread::get_id() == parts_->thread_id; }

SchedulerStats Scheduler::stats() const { return parts_->mailbox.stats(); }

const ExecutorLimits& Scheduler::limits() const { return parts_->limits; }

const std::vector<PlacedPart>& Scheduler::placement() const { return parts_->placement; }

}  // namespace xcomposer
