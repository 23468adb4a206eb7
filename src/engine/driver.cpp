#include "engine/driver.h"

#include <algorithm>
#include <span>
#include <string>
#include <utility>

#include "base/check.h"
#include "base/current_error.h"
#include "base/log.h"

namespace xcomposer {
namespace {

Error OfJob(const Error& error, const Job& job) {
  return job.id.empty() ? error : error.With("request", job.id);
}

/// After these the executor is lost to all; trying again would only cost time.
bool IsFatal(ErrorKind kind) {
  return kind == ErrorKind::kDevice || kind == ErrorKind::kRank || kind == ErrorKind::kTransport;
}

Error ShuttingDown() { return {ErrorKind::kCancelled, "the engine is shutting down"}; }

/// Whether none of the runs' results is wanted any more. Holds nothing of the runs themselves,
/// since the executor may ask after they are over.
StopTest NobodyWants(std::span<JobRun* const> runs) {
  struct Wish {
    std::shared_ptr<const std::atomic<bool>> unwanted;
    std::optional<Mailbox::Clock::time_point> deadline;
  };
  std::vector<Wish> wishes;
  for (const JobRun* run : runs) wishes.push_back({run->unwanted, run->job().deadline});
  return [wishes = std::move(wishes)] {
    return std::all_of(wishes.begin(), wishes.end(), [](const Wish& wish) {
      return *wish.unwanted || (wish.deadline && Mailbox::Clock::now() >= *wish.deadline);
    });
  };
}

/// Each once. Those of a batch's parts that are over are none.
std::vector<JobRun*> RunsOf(std::span<const BatchPart> parts) {
  std::vector<JobRun*> runs;
  for (const BatchPart& part : parts) {
    const bool known = !runs.empty() && runs.back() == part.run;  // its parts follow each other
    if (part.run != nullptr && !known) runs.push_back(part.run);
  }
  return runs;
}

void CheckFits(const BlockPool& pool, const BlockDemand& demand, int64_t needed) {
  if (needed <= pool.total()) return;
  throw Error(
      ErrorKind::kCapacity,
      StrCat("the request needs ", needed, " KV blocks of ", pool.block_size(), " positions (",
             demand.prompt_rows, " prompt rows, ", demand.max_rows - demand.prompt_rows,
             " new positions, ", demand.beams, " beams), the cache has ", pool.total(),
             ": shorten the prompt, lower max_new_tokens or num_beams, or load the model"
             " with more positions (kv_tokens)"),
      {{"needed", std::to_string(needed)}, {"available", std::to_string(pool.total())}});
}

}  // namespace

Driver::Driver(Executor* executor, const SchedulerOptions& options, Mailbox* mailbox)
    : executor_(executor),
      mailbox_(mailbox),
      limits_(executor->limits()),
      blocks_(limits_.kv_blocks, limits_.block_size),
      features_(executor, options.feature_cache_rows),
      context_{&blocks_, &features_, &options.rope_base, limits_.vocab, limits_.chooses_ids},
      planner_(limits_, [this](JobRun* run, const Error& error) { Fail(run, error); }) {
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
  FailAll(ShuttingDown());
}

bool Driver::Step() {
  const bool idle = queue_.empty() && running_.empty() && flights_.empty();
  Mailbox::Intake intake = mailbox_->Collect(idle);
  for (Mailbox::Letter& letter : intake.letters) Accept(std::move(letter));
  EndCancelledAndLate(intake.cancelled);
  if (intake.closed) return false;
  Admit();
  Publish();
  EncodeOnePicture();
  // One batch more than there are stages: the first stage never waits for this thread.
  const int64_t most = limits_.stages == 1 ? 1 : limits_.stages + 1;
  while (static_cast<int64_t>(flights_.size()) < most && SubmitBatch()) {
  }
  if (!flights_.empty()) CollectBatch();
  return true;
}

void Driver::Accept(Mailbox::Letter letter) {
  const std::string name = letter.job.id;
  try {
    auto run =
        std::make_unique<JobRun>(letter.id, std::move(letter.job), letter.submitted, context_);
    run->unwanted = std::move(letter.unwanted);
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

void Driver::EndEarly(JobRun* run) {
  if (mailbox_->closed()) {
    Fail(run, ShuttingDown());
  } else {
    Finish(run, *run->unwanted ? JobFinish::kCancelled : JobFinish::kDeadline);
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
    JobRun* const one = run.get();
    const StopTest unwanted = NobodyWants({&one, 1});
    try {
      one->EncodeNextPicture(unwanted);
      Deliver(one);
    } catch (...) {
      const Error error = CurrentError();
      if (error.kind() == ErrorKind::kCancelled && unwanted()) {
        EndEarly(one);
      } else {
        Fail(one, error);
      }
    }
    return;
  }
}

bool Driver::SubmitBatch() {
  const auto answers_on_their_way = std::count_if(
      flights_.begin(), flights_.end(), [](const Flight& flight) { return flight.has_answers; });
  std::vector<BatchPart> parts = planner_.Plan(running_, answers_on_their_way, batches_);
  if (parts.empty()) return false;
  if (const auto error = Submit(parts)) Recover(*error, {.parts = std::move(parts)});
  return true;
}

std::optional<Error> Driver::Submit(std::vector<BatchPart> parts) {
  ++batches_;
  Flight flight;
  for (const BatchPart& part : parts) {
    part.run->last_served = batches_;
    flight.scores += part.slice.wants_logits ? 1 : 0;
    flight.has_answers |= part.slice.wants_logits && part.slice.row_count == 1;
  }
  flight.unwanted = NobodyWants(RunsOf(parts));
  Batch batch = Merge(parts);
  batch.stop = flight.unwanted;
  JobRun* first = parts.front().run;
  if (first->WantsBatchAlone()) {
    batch.taps = first->PromptTaps();
    // The job may be over by the time its tensors come.
    batch.taps.put = [this, put = std::move(batch.taps.put)](Tap&& tap) {
      if (flights_.front().parts.front().run != nullptr) put(std::move(tap));
    };
    batch.all_logits = first->WantsAllLogits();
    if (batch.all_logits) flight.scores = batch.rows();
  }
  flight.all_logits = batch.all_logits;
  flight.only_ids = WantsIdsOnly(batch);
  try {
    executor_->Submit(std::move(batch));
  } catch (...) {
    return CurrentError();
  }
  flight.parts = std::move(parts);
  flights_.push_back(std::move(flight));
  return std::nullopt;
}

std::optional<Error> Driver::Collect(Flight* flight) {
  std::optional<Error> error;
  Logits logits;
  try {
    logits = executor_->Collect();
  } catch (...) {
    error = CurrentError();
  }
  *flight = std::move(flights_.front());
  flights_.pop_front();
  if (error) return error;
  try {
    Commit(*flight, logits);
  } catch (...) {
    return CurrentError();
  }
  return std::nullopt;
}

void Driver::Commit(const Flight& flight, const Logits& logits) {
  const bool chosen = !logits.chosen.empty();
  const int64_t width = chosen ? 0 : limits_.vocab;  // of a row of values
  Check(logits.rows == flight.scores && logits.vocab == limits_.vocab &&
            static_cast<int64_t>(logits.values.size()) == flight.scores * width &&
            (!chosen ||
             (flight.only_ids && static_cast<int64_t>(logits.chosen.size()) == flight.scores)),
        "the executor gave scores of shape (", logits.rows, ", ", logits.vocab, ") or ",
        logits.chosen.size(), " ids, expected (", flight.scores, ", ", limits_.vocab, ")");
  const std::span<const float> values(logits.values);
  int64_t row = 0;
  for (const BatchPart& part : flight.parts) {
    int64_t count = part.slice.wants_logits ? 1 : 0;
    if (flight.all_logits) count = part.slice.row_count;
    if (part.run != nullptr) {
      std::optional<int32_t> id;
      if (chosen && count > 0) id = logits.chosen[static_cast<size_t>(row)];
      part.run->Commit(part, values.subspan(row * width, count * width), id);
    }
    row += count;
  }
}

void Driver::CollectBatch() {
  Flight flight;
  if (const auto error = Collect(&flight)) {
    Recover(*error, std::move(flight));
  } else {
    SettleAll(flight);
  }
}

bool Driver::EndedUnwanted(const Error& error, const Flight& flight) {
  if (error.kind() != ErrorKind::kCancelled || !flight.unwanted || !flight.unwanted()) return false;
  for (JobRun* run : RunsOf(flight.parts)) EndEarly(run);
  return true;
}

void Driver::Recover(const Error& error, Flight failed) {
  if (EndedUnwanted(error, failed)) return;
  const std::vector<JobRun*> jobs = RunsOf(failed.parts);
  if (jobs.size() <= 1 || IsFatal(error.kind())) {
    for (JobRun* run : jobs) Fail(run, error);
    return;
  }
  // One job may have spoilt the batch for all. Its rows are written at the same places again, so
  // each job's parts can be run once more by themselves.
  log::Warn("a batch of ", jobs.size(), " requests failed, they run one by one: ", error.what());
  SetAside(std::move(failed));
  while (!flights_.empty()) {
    Flight next;
    if (const auto later = Collect(&next)) {
      if (IsFatal(later->kind())) {
        Recover(*later, std::move(next));
      } else if (!EndedUnwanted(*later, next)) {
        SetAside(std::move(next));
      }
    } else {
      SettleAll(next);
    }
  }
  RunAgain();
}

void Driver::SetAside(Flight failed) {
  const size_t first = again_.size();
  for (BatchPart& part : failed.parts) {
    if (part.run == nullptr) continue;
    const bool same_job = again_.size() > first && again_.back().front().run == part.run;
    if (!same_job) again_.emplace_back();
    again_.back().push_back(std::move(part));
  }
  // Later rows of these jobs are on their way already and stand on rows that may not be there.
  const size_t end = again_.size();
  for (Flight& flight : flights_) {
    for (size_t i = first; i < end; ++i) {
      std::vector<BatchPart> rows;
      for (BatchPart& part : flight.parts) {
        if (part.run == nullptr || part.run != again_[i].front().run) continue;
        rows.push_back(part);
        part.run = nullptr;
      }
      if (!rows.empty()) again_.push_back(std::move(rows));
    }
  }
}

void Driver::RunAgain() {
  while (!again_.empty()) {
    std::vector<BatchPart> parts = std::move(again_.front());
    again_.pop_front();
    JobRun* run = parts.front().run;
    if (run == nullptr) continue;  // over meanwhile
    Flight flight;
    std::optional<Error> error = Submit(std::move(parts));
    if (!error) error = Collect(&flight);
    if (!error) {
      Settle(run);
    } else if (!EndedUnwanted(*error, flight)) {
      Fail(run, *error);
    }
  }
}

void Driver::SettleAll(const Flight& flight) {
  for (size_t i = 0; i < flight.parts.size(); ++i) {
    JobRun* run = flight.parts[i].run;
    if (run != nullptr && (i == 0 || run != flight.parts[i - 1].run)) Settle(run);
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
  // Batches in flight come back in order and write before whoever gets these blocks next.
  const auto forget = [run](std::vector<BatchPart>& parts) {
    for (BatchPart& part : parts) {
      if (part.run == run) part.run = nullptr;
    }
  };
  for (Flight& flight : flights_) forget(flight.parts);
  for (std::vector<BatchPart>& parts : again_) forget(parts);
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
