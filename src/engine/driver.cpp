#include "engine/driver.h"

#include <algorithm>
#include <new>
#include <string>
#include <utility>

#include "base/check.h"
#include "base/log.h"

namespace xcomposer {
namespace {

/// The exception in flight, as one of ours.
Error CurrentError() {
  try {
    throw;
  } catch (const Error& error) {
    return error;
  } catch (const std::bad_alloc&) {
    return Error(ErrorKind::kCapacity, "out of memory");
  } catch (const std::exception& error) {
    return Error(ErrorKind::kInternal, error.what());
  } catch (...) {
    return Error(ErrorKind::kInternal, "an exception of unknown type");
  }
}

Error OfJob(const Error& error, const Job& job) {
  return job.id.empty() ? error : error.With("request", job.id);
}

/// After these the executor is lost to all; trying again would only cost time.
bool IsFatal(ErrorKind kind) {
  return kind == ErrorKind::kDevice || kind == ErrorKind::kRank || kind == ErrorKind::kTransport;
}

void CheckFits(const BlockPool& pool, const BlockDemand& demand, int64_t needed) {
  if (needed <= pool.total()) return;
  throw Error(
      ErrorKind::kCapacity,
      StrCat("the request needs ", needed, " KV blocks of ", pool.block_size(), " positions (",
             demand.prompt_rows, " prompt rows, ", demand.max_rows - demand.prompt_rows,
             " new positions, ", demand.beams, " beams), the cache has ", pool.total(),
             ": shorten the prompt, lower max_new_tokens or num_beams, or load the model"
             " with a larger context"),
      {{"needed", std::to_string(needed)}, {"available", std::to_string(pool.total())}});
}

}  // namespace

Driver::Driver(Executor* executor, const SchedulerOptions& options, Mailbox* mailbox)
    : executor_(executor),
      mailbox_(mailbox),
      limits_(executor->limits()),
      blocks_(limits_.kv_blocks, limits_.block_size),
      features_(executor, options.feature_cache_rows),
      context_{&blocks_, &features_, &options.rope_base, limits_.vocab} {
  Publish();
}

void Driver::Run() {
  for (bool open = true; open;) {
    try {
      open = Step();
    } catch (...) {
      // Not the fault of one job that could be told: all end, the engine lives.
      FailAll(CurrentError());
    }
  }
  FailAll(Error(ErrorKind::kCancelled, "the engine is shutting down"));
}

bool Driver::Step() {
  const bool idle = queue_.empty() && running_.empty();
  Mailbox::Intake intake = mailbox_->Collect(idle);
  for (Mailbox::Letter& letter : intake.letters) Accept(std::move(letter));
  EndCancelledAndLate(intake.cancelled);
  if (intake.closed) return false;
  Admit();
  Publish();
  EncodeOnePicture();
  RunBatch();
  return true;
}

void Driver::Accept(Mailbox::Letter letter) {
  const std::string name = letter.job.id;
  try {
    auto run =
        std::make_unique<JobRun>(letter.id, std::move(letter.job), letter.submitted, context_);
    const BlockDemand demand = run->demand();
    run->needed_blocks = MaxBlocks(blocks_, demand);
    CheckFits(blocks_, demand, run->needed_blocks);
    queue_.push_back(std::move(run));
  } catch (...) {
    JobEvent event;
    event.job = letter.id;
    event.kind = JobEvent::Kind::kError;
    event.error = CurrentError();
    if (!name.empty()) event.error = event.error->With("request", name);
    mailbox_->Deliver(std::move(event));
  }
}

void Driver::EndCancelledAndLate(const std::vector<JobId>& cancelled) {
  const std::set<JobId> asked(cancelled.begin(), cancelled.end());
  const Clock::time_point now = Clock::now();
  std::vector<std::pair<JobRun*, JobFinish>> ends;
  const auto look = [&](const RunPtr& run) {
    const auto& deadline = run->job().deadline;
    if (asked.contains(run->id())) {
      ends.emplace_back(run.get(), JobFinish::kCancelled);
    } else if (deadline && now >= *deadline) {
      ends.emplace_back(run.get(), JobFinish::kDeadline);
    }
  };
  for (const RunPtr& run : running_) look(run);
  for (const RunPtr& run : queue_) look(run);
  for (const auto& [run, finish] : ends) Finish(run, finish);
}

void Driver::Admit() {
  while (!queue_.empty()) {
    JobRun* run = queue_.front().get();
    // Nobody overtakes, so that no job starves.
    if (run->needed_blocks > blocks_.total() - reserved_blocks_) return;
    run->reserved_blocks = run->needed_blocks;
    reserved_blocks_ += run->reserved_blocks;
    run->last_served = batches_;
    running_.push_back(std::move(queue_.front()));
    queue_.pop_front();
    try {
      run->Start();
    } catch (...) {
      Fail(run, CurrentError());
    }
  }
}

void Driver::EncodeOnePicture() {
  // One between two batches, so that answers on their way are not held up by all of them.
  for (const RunPtr& run : running_) {
    if (!run->HasPictures()) continue;
    try {
      run->EncodeNextPicture();
      Deliver(run.get());
    } catch (...) {
      Fail(run.get(), CurrentError());
    }
    return;
  }
}

std::vector<BatchPart> Driver::PlanBatch() {
  std::vector<JobRun*> answers;  // one new row per sequence
  std::vector<JobRun*> prompts;
  JobRun* alone = nullptr;
  for (const RunPtr& run : running_) {
    if (run->HasPictures()) continue;
    if (run->WantsBatchAlone()) {
      if (alone == nullptr) alone = run.get();
    } else {
      (run->prefilling() ? prompts : answers).push_back(run.get());
    }
  }
  std::vector<BatchPart> parts;
  // A job that must be alone takes turns with all others.
  const bool its_turn = alone != nullptr && alone->last_served < batches_;
  if (!its_turn) {
    // Answers first, those that waited longest before the others; prompts take what is left, in
    // order of admission, and never nothing.
    std::stable_sort(answers.begin(), answers.end(), [](const JobRun* a, const JobRun* b) {
      return a->last_served < b->last_served;
    });
    const int64_t rows = limits_.max_batch_rows;
    const int64_t kept_for_prompts = prompts.empty() || rows == 1 ? 0 : 1;
    TakeRows(answers, rows - kept_for_prompts, &parts);
    TakeRows(prompts, rows, &parts);
  }
  if (parts.empty() && alone != nullptr) TakeRows({alone}, limits_.max_batch_rows, &parts);
  return parts;
}

void Driver::TakeRows(const std::vector<JobRun*>& runs, int64_t most,
                      std::vector<BatchPart>* parts) {
  for (const BatchPart& part : *parts) most -= part.slice.row_count;
  for (JobRun* run : runs) {
    if (most == 0) return;
    try {
      for (BatchPart& part : run->TakeRows(most)) {
        most -= part.slice.row_count;
        parts->push_back(std::move(part));
      }
    } catch (...) {
      Fail(run, CurrentError());
    }
  }
}

void Driver::RunBatch() {
  const std::vector<BatchPart> parts = PlanBatch();
  if (parts.empty()) return;
  ++batches_;
  for (const BatchPart& part : parts) part.run->last_served = batches_;
  try {
    Execute(parts);
  } catch (...) {
    Recover(CurrentError(), parts);
    return;
  }
  for (size_t i = 0; i < parts.size(); ++i) {
    if (i == 0 || parts[i].run != parts[i - 1].run) Settle(parts[i].run);
  }
}

void Driver::Execute(const std::vector<BatchPart>& parts) {
  Batch batch = Merge(parts);
  JobRun* first = parts.front().run;
  if (first->WantsBatchAlone()) {
    batch.taps = first->PromptTaps();
    batch.all_logits = first->WantsAllLogits();
  }
  const Logits logits = executor_->Forward(batch);
  int64_t expected = 0;
  for (const BatchPart& part : parts) expected += part.slice.wants_logits ? 1 : 0;
  if (batch.all_logits) expected = batch.rows();
  Check(logits.rows == expected && logits.vocab == limits_.vocab &&
            static_cast<int64_t>(logits.values.size()) == expected * limits_.vocab,
        "the executor gave scores of shape (", logits.rows, ", ", logits.vocab, "), expected (",
        expected, ", ", limits_.vocab, ")");
  const std::span<const float> values(logits.values);
  int64_t row = 0;
  for (const BatchPart& part : parts) {
    int64_t count = part.slice.wants_logits ? 1 : 0;
    if (batch.all_logits) count = part.slice.row_count;
    part.run->Commit(part, values.subspan(row * limits_.vocab, count * limits_.vocab));
    row += count;
  }
}

void Driver::Recover(const Error& error, const std::vector<BatchPart>& parts) {
  std::vector<std::vector<BatchPart>> by_job;
  for (const BatchPart& part : parts) {
    if (by_job.empty() || by_job.back().front().run != part.run) by_job.emplace_back();
    by_job.back().push_back(part);
  }
  if (by_job.size() == 1 || IsFatal(error.kind())) {
    for (const auto& job_parts : by_job) Fail(job_parts.front().run, error);
    return;
  }
  // One job may have spoilt the batch for all. Its rows are written at the same places again, so
  // each job's part can be run once more by itself.
  log::Warn("a batch of ", by_job.size(), " requests failed, they run one by one: ", error.what());
  for (const auto& job_parts : by_job) {
    JobRun* run = job_parts.front().run;
    try {
      ++batches_;
      Execute(job_parts);
    } catch (...) {
      Fail(run, CurrentError());
      continue;
    }
    Settle(run);
  }
}

void Driver::Settle(JobRun* run) {
  try {
    run->Advance();
  } catch (...) {
    Fail(run, CurrentError());
    return;
  }
  if (run->finish()) {
    Finish(run, *run->finish());
  } else {
    Deliver(run);
  }
}

void Driver::Deliver(JobRun* run) {
  for (JobEvent& event : run->TakeEvents()) mailbox_->Deliver(std::move(event));
}

void Driver::Finish(JobRun* run, JobFinish finish) {
  JobEvent event;
  event.job = run->id();
  event.kind = JobEvent::Kind::kDone;
  try {
    event.result = run->Conclude(finish);
  } catch (...) {
    Fail(run, CurrentError());
    return;
  }
  Deliver(run);
  Remove(run);
  mailbox_->Deliver(std::move(event));
}

void Driver::Fail(JobRun* run, const Error& error) {
  JobEvent event;
  event.job = run->id();
  event.kind = JobEvent::Kind::kError;
  event.error = OfJob(error, run->job());
  Deliver(run);
  Remove(run);
  mailbox_->Deliver(std::move(event));
}

void Driver::FailAll(const Error& error) {
  while (!running_.empty()) Fail(running_.back().get(), error);
  while (!queue_.empty()) Fail(queue_.back().get(), error);
}

void Driver::Remove(JobRun* run) {
  const auto is_run = [run](const RunPtr& other) { return other.get() == run; };
  reserved_blocks_ -= run->reserved_blocks;
  std::erase_if(running_, is_run);
  std::erase_if(queue_, is_run);
  Publish();
}

void Driver::Publish() {
  SchedulerStats stats;
  stats.queued = static_cast<int64_t>(queue_.size());
  stats.running = static_cast<int64_t>(running_.size());
  stats.kv_blocks = blocks_.total();
  stats.free_kv_blocks = blocks_.free();
  stats.cached_feature_rows = features_.rows();
  stats.batches = batches_;
  mailbox_->Publish(stats);
}

}  // namespace xcomposer
