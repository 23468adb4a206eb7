#include "engine/job_run.h"

#include <algorithm>
#include <random>
#include <utility>

#include "base/check.h"
#include "engine/job_check.h"

namespace xcomposer {
namespace {

double Seconds(JobRun::Clock::duration duration) {
  return std::chrono::duration<double>(duration).count();
}

/// The lower of two; 0 of none.
double Median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>((values.size() - 1) / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// 53 bits: a seed that survives a JSON reader whose numbers are doubles.
uint64_t DrawSeed() {
  std::random_device device;
  return (uint64_t{device()} << 32 | device()) >> 11;
}

}  // namespace

JobRun::JobRun(JobId id, Job job, Clock::time_point submitted, const RunContext& context)
    : id_(id), job_(std::move(job)), context_(context), taps_(job_.taps), submitted_(submitted) {
  Validate(job_, context_.vocab);
  if (!job_.search.seed) job_.search.seed = DrawSeed();
  if (job_.call == JobCall::kChat) {
    search_ = MakeSearch(job_.search, job_.penalty_ids, context_.vocab);
  }
  result_.seed = *job_.search.seed;
  result_.prompt_rows = prompt_rows();
  for (const PictureSpan& span : job_.spans) result_.image_rows += span.row_count;
}

BlockDemand JobRun::demand() const {
  const int64_t rows = prompt_rows();
  if (job_.call == JobCall::kForward) return {rows, rows, 1, true};
  const int64_t most = rows + job_.search.max_new_tokens - 1;
  const auto& rope_base = *context_.rope_base;
  const bool recomputes = job_.text_path && rope_base(most) != rope_base(rows);
  return {rows, most, job_.search.num_beams, !recomputes};
}

void JobRun::Start() {
  rows_began_ = Clock::now();
  result_.timings.queue_s = Seconds(rows_began_ - submitted_);
  sequences_.push_back({job_.ids, BlockTable(context_.blocks)});
  BeginPass(&sequences_[0]);
  ReportProgress();
}

void JobRun::EncodeNextPicture(const StopTest& stop) {
  const Clock::time_point began = Clock::now();
  const size_t picture = next_picture_;
  features_.push_back(
      context_.features->Get(job_.pictures[picture], StrCat("image", picture), job_.taps, stop));
  const int64_t rows = features_.back().encoded().rows;
  for (const PictureSpan& span : job_.spans) {
    if (span.picture != static_cast<int64_t>(picture)) continue;
    Require(span.row_count <= rows, ErrorKind::kRequest, "picture ", picture, ": its span has ",
            span.row_count, " rows, its features have ", rows);
  }
  ++next_picture_;
  rows_began_ = Clock::now();
  result_.timings.image_s += Seconds(rows_began_ - began);
  ReportProgress();
}

int64_t JobRun::pending_rows() const {
  int64_t rows = 0;
  for (const Sequence& sequence : sequences_) {
    rows += static_cast<int64_t>(sequence.ids.size()) - sequence.handed_out;
  }
  return rows;
}

bool JobRun::prefilling() const {
  return std::any_of(sequences_.begin(), sequences_.end(), [](const Sequence& sequence) {
    return static_cast<int64_t>(sequence.ids.size()) - sequence.handed_out > 1;
  });
}

bool JobRun::WantsAllLogits() const {
  return job_.call == JobCall::kForward && job_.taps.Wants("prefill_logits");
}

void JobRun::BeginPass(Sequence* sequence) {
  const int64_t length = static_cast<int64_t>(sequence->ids.size());
  const double base = (*context_.rope_base)(length);
  if (job_.text_path && sequence->computed > 0 && base != sequence->rope_base) {
    sequence->blocks.Clear();
    sequence->handed_out = 0;
    sequence->computed = 0;
  }
  sequence->rope_base = base;
}

std::vector<BatchPart> JobRun::TakeRows(int64_t budget) {
  std::vector<BatchPart> parts;
  for (size_t index = 0; index < sequences_.size() && budget > 0; ++index) {
    const Sequence& sequence = sequences_[index];
    const int64_t pending = static_cast<int64_t>(sequence.ids.size()) - sequence.handed_out;
    const int64_t rows = std::min(pending, budget);
    if (rows == 0) continue;
    parts.push_back(Slice(static_cast<int64_t>(index), rows));
    budget -= rows;
  }
  return parts;
}

BatchPart JobRun::Slice(int64_t index, int64_t rows) {
  Sequence& sequence = sequences_[index];
  const int64_t begin = sequence.handed_out;
  const int64_t end = begin + rows;
  BatchPart part;
  part.run = this;
  part.sequence = index;
  part.ids.assign(sequence.ids.begin() + begin, sequence.ids.begin() + end);
  sequence.blocks.Prepare(begin, end, &part.copies);
  part.slice.row_count = rows;
  part.slice.position = begin;
  part.slice.rope_base = sequence.rope_base;
  part.slice.adapter = job_.adapter;
  part.slice.wants_logits = end == static_cast<int64_t>(sequence.ids.size());
  part.slice.block_table = sequence.blocks.Covering(end);
  if (part.slice.wants_logits && ChoosesElsewhere()) part.slice.choice = search_->Choice();
  sequence.handed_out = end;
  for (const PictureSpan& span : job_.spans) {
    const int64_t first = std::max(begin, span.first_row);
    const int64_t last = std::min(end, span.first_row + span.row_count);
    if (first >= last) continue;
    part.features.push_back({first - begin, last - first, features_[span.picture].encoded().feature,
                             first - span.first_row});
  }
  return part;
}

bool JobRun::ChoosesElsewhere() const {
  return context_.chooses_ids && search_ != nullptr && !taps_.Wants("logits");
}

void JobRun::Commit(const BatchPart& part, std::span<const float> logits,
                    std::optional<int32_t> chosen) {
  Sequence& sequence = sequences_[part.sequence];
  Check(part.slice.position == sequence.computed, "rows from ", part.slice.position,
        " were run, expected from ", sequence.computed);
  if (WantsAllLogits()) {
    const int64_t rows = part.slice.row_count;
    taps_.Append({"prefill_logits", {rows, context_.vocab}, {logits.begin(), logits.end()}, {}});
  } else if (part.slice.wants_logits) {
    sequence.scores.assign(logits.begin(), logits.end());
    sequence.chosen = chosen;
  }
  sequence.computed += part.slice.row_count;
  if (!prompt_done_) ReportProgress();
}

void JobRun::ReportProgress() {
  if (!job_.wants_progress) return;
  JobEvent event;
  event.job = id_;
  event.kind = JobEvent::Kind::kProgress;
  event.rows_done = sequences_[0].computed;
  event.rows_total = prompt_rows();
  events_.push_back(std::move(event));
}

void JobRun::FinishPrompt() {
  prompt_done_ = true;
  taps_.Flush();
  // Only a text path, which has no pictures, may need the prompt's rows again.
  if (!job_.text_path) features_.clear();
}

void JobRun::Advance() {
  for (const Sequence& sequence : sequences_) {
    if (sequence.computed < static_cast<int64_t>(sequence.ids.size())) return;
  }
  if (!prompt_done_) FinishPrompt();
  if (search_ == nullptr) {
    finish_ = JobFinish::kLength;
    return;
  }
  const SearchStep step = NextStep();
  const Clock::time_point now = Clock::now();
  if (first_id_) steps_s_.push_back(Seconds(now - last_id_));
  last_id_ = now;
  if (!first_id_) first_id_ = now;
  Settle(step.settled);
  if (step.next.empty() && !finish_) {
    finish_ = search_->Output().stopped ? JobFinish::kStop : JobFinish::kLength;
  }
  if (!finish_) Continue(step.next);
}

SearchStep JobRun::NextStep() {
  if (sequences_[0].chosen) return search_->Accept(*sequences_[0].chosen);
  std::vector<float> scores;  // (width, vocab)
  for (const Sequence& sequence : sequences_) {
    scores.insert(scores.end(), sequence.scores.begin(), sequence.scores.end());
  }
  if (taps_.Wants("logits")) KeepScores(scores);
  return search_->Advance(scores);
}

void JobRun::KeepScores(std::span<const float> scores) {
  const int64_t beams = job_.search.num_beams;
  Tap tap{"logits", {1, context_.vocab}, {scores.begin(), scores.end()}, {}};
  if (beams > 1) {
    tap.shape = {1, beams, context_.vocab};
    // Before the first id all beams are one.
    while (static_cast<int64_t>(tap.values.size()) < beams * context_.vocab) {
      tap.values.insert(tap.values.end(), scores.begin(), scores.end());
    }
  }
  taps_.Append(std::move(tap));
}

void JobRun::Settle(const std::vector<int32_t>& ids) {
  JobEvent event;
  event.job = id_;
  event.kind = JobEvent::Kind::kOutput;
  for (const int32_t id : ids) {
    event.ids.push_back(id);
    if (job_.text == nullptr) continue;
    TextStream::Piece piece = job_.text->Push(id);
    event.text += piece.text;
    if (piece.stop) {
      finish_ = JobFinish::kStop;
      break;
    }
  }
  if (event.ids.empty()) return;
  result_.output_ids.insert(result_.output_ids.end(), event.ids.begin(), event.ids.end());
  result_.text += event.text;
  events_.push_back(std::move(event));
}

void JobRun::Continue(const std::vector<Continuation>& next) {
  // The last continuation of a parent takes its blocks over: a chain without branches copies
  // nothing.
  std::vector<int64_t> uses(sequences_.size(), 0);
  for (const Continuation& continuation : next) ++uses[continuation.parent];
  std::vector<Sequence> sequences;
  sequences.reserve(next.size());
  for (const Continuation& continuation : next) {
    Sequence& parent = sequences_[continuation.parent];
    if (--uses[continuation.parent] == 0) {
      sequences.push_back(std::move(parent));
    } else {
      sequences.push_back(
          {parent.ids, parent.blocks.Fork(), parent.handed_out, parent.computed, parent.rope_base});
    }
    sequences.back().ids.push_back(continuation.id);
  }
  sequences_ = std::move(sequences);
  for (Sequence& sequence : sequences_) BeginPass(&sequence);
}

std::vector<JobEvent> JobRun::TakeEvents() { return std::exchange(events_, {}); }

JobResult JobRun::Conclude(JobFinish finish) {
  if (search_ != nullptr) {
    SearchOutput output = search_->Output();
    if (finish != JobFinish::kStop && finish != JobFinish::kLength) {
      output.ids.erase(output.ids.begin(), output.ids.begin() + result_.output_ids.size());
      Settle(output.ids);
    }
    result_.sequence_score = output.score;
  }
  result_.finish = finish;
  if (job_.text != nullptr) {
    JobEvent event;
    event.job = id_;
    event.text = job_.text->Finish();
    result_.text += event.text;
    if (!event.text.empty()) events_.push_back(std::move(event));
  }
  if (prompt_done_) taps_.Flush();
  sequences_.clear();
  features_.clear();

  JobTimings& timings = result_.timings;
  if (first_id_) {
    timings.prefill_s = Seconds(*first_id_ - rows_began_);
    timings.decode_s = Seconds(last_id_ - *first_id_);
    timings.step_s = Median(steps_s_);
    const int64_t later_ids = static_cast<int64_t>(result_.output_ids.size()) - 1;
    if (later_ids > 0 && timings.decode_s > 0) {
      timings.tokens_per_s = static_cast<double>(later_ids) / timings.decode_s;
    }
  }
  return std::move(result_);
}

}  // namespace xcomposer
