#include "engine/beam_search.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/check.h"
#include "engine/score_processors.h"

namespace xcomposer {

void Hypotheses::Add(std::vector<int32_t> ids, double sum, bool stopped) {
  const double length = static_cast<double>(ids.size());
  const double score = sum / std::pow(length, options_.length_penalty);
  const size_t most = static_cast<size_t>(options_.num_beams);
  if (kept_.size() >= most && !(score > worst_)) return;
  kept_.push_back({score, std::move(ids), stopped});
  if (kept_.size() <= most) {
    worst_ = std::min(score, worst_);
    return;
  }
  const auto by_score = [](const Hypothesis& a, const Hypothesis& b) { return a.score < b.score; };
  kept_.erase(std::min_element(kept_.begin(), kept_.end(), by_score));
  worst_ = std::min_element(kept_.begin(), kept_.end(), by_score)->score;
}

bool Hypotheses::Settled(double best_sum, int64_t length, int64_t max_length) const {
  if (static_cast<int64_t>(kept_.size()) < options_.num_beams) return false;
  if (options_.early_stopping == EarlyStop::kYes) return true;
  // With a positive length penalty a longer answer divides its (negative) sum by more.
  const bool longest_is_best =
      options_.early_stopping == EarlyStop::kNever && options_.length_penalty > 0;
  const double at = static_cast<double>(longest_is_best ? max_length : length);
  return worst_ >= best_sum / std::pow(at, options_.length_penalty);
}

const Hypotheses::Hypothesis& Hypotheses::best() const {
  Check(!kept_.empty(), "a beam search without hypotheses");
  return *std::max_element(kept_.rbegin(), kept_.rend(),
                           [](const auto& a, const auto& b) { return a.score < b.score; });
}

BeamSearch::BeamSearch(const SearchOptions& options, std::vector<int32_t> penalty_ids,
                       int64_t vocab)
    : options_(options),
      vocab_(vocab),
      prompt_length_(static_cast<int64_t>(penalty_ids.size())),
      max_length_(prompt_length_ + options.max_new_tokens),
      finished_(options) {
  beams_.assign(options_.num_beams, {std::move(penalty_ids), -1e9f});
  beams_[0].sum = 0;
}

bool BeamSearch::IsStop(int32_t id) const {
  const auto& stop_ids = options_.eos_token_id;
  return std::find(stop_ids.begin(), stop_ids.end(), id) != stop_ids.end();
}

std::vector<BeamSearch::Ranked> BeamSearch::Rank(std::span<const float> scores) const {
  const auto before = [](const Ranked& a, const Ranked& b) {
    if (a.sum != b.sum) return a.sum > b.sum;
    return a.beam != b.beam ? a.beam < b.beam : a.id < b.id;
  };
  const size_t wanted = static_cast<size_t>(CandidatesPerBeam(options_) * options_.num_beams);
  std::vector<Ranked> best;  // a heap whose front is the worst kept
  std::vector<float> processed;
  const int64_t new_ids = static_cast<int64_t>(beams_[0].ids.size()) - prompt_length_;
  for (int64_t beam = 0; beam < options_.num_beams; ++beam) {
    if (started_ || beam == 0) {
      const auto row = scores.subspan(beam * vocab_, vocab_);
      CheckFinite(row, new_ids);
      processed.assign(row.begin(), row.end());
      LogSoftmax(processed);
      ProcessScores(options_, beams_[beam].ids, new_ids, processed);
    }  // else: all beams are still alike, and so are their scores
    for (int32_t id = 0; id < vocab_; ++id) {
      const Ranked candidate{processed[id] + beams_[beam].sum, beam, id};
      if (best.size() < wanted) {
        best.push_back(candidate);
        std::push_heap(best.begin(), best.end(), before);
      } else if (before(candidate, best.front())) {
        std::pop_heap(best.begin(), best.end(), before);
        best.back() = candidate;
        std::push_heap(best.begin(), best.end(), before);
      }
    }
  }
  std::sort(best.begin(), best.end(), before);
  return best;
}

SearchStep BeamSearch::Advance(std::span<const float> scores) {
  Check(!over_, "the beam search is over");
  Check(static_cast<int64_t>(scores.size()) == width() * vocab_, "scores: found ", scores.size(),
        ", expected ", width() * vocab_);
  const std::vector<Ranked> ranked = Rank(scores);

  SearchStep step;
  std::vector<Beam> next;
  for (int64_t rank = 0; static_cast<int64_t>(next.size()) < options_.num_beams; ++rank) {
    const Ranked& candidate = ranked.at(rank);
    const Beam& parent = beams_[candidate.beam];
    if (!IsStop(candidate.id)) {
      next.push_back({parent.ids, candidate.sum});
      next.back().ids.push_back(candidate.id);
      step.next.push_back({started_ ? candidate.beam : 0, candidate.id});
    } else if (rank < options_.num_beams) {
      finished_.Add(parent.ids, candidate.sum, true);
    }  // else: a stop id that is not among the best is dropped
  }
  beams_ = std::move(next);
  started_ = true;

  const int64_t length = static_cast<int64_t>(beams_[0].ids.size());
  const bool settled = finished_.Settled(ranked[0].sum, length, max_length_);
  if (!settled && length < max_length_) return step;
  if (!settled) {
    for (const Beam& beam : beams_) finished_.Add(beam.ids, beam.sum, false);
  }
  over_ = true;
  return {Finish(finished_).ids, {}};
}

SearchOutput BeamSearch::Finish(const Hypotheses& hypotheses) const {
  const Hypotheses::Hypothesis& best = hypotheses.best();
  SearchOutput output{
      {best.ids.begin() + prompt_length_, best.ids.end()}, best.stopped, best.score};
  // Whichever stop id ended it, the reference appends the first one.
  if (best.stopped) output.ids.push_back(options_.eos_token_id.front());
  return output;
}

SearchOutput BeamSearch::Output() const {
  if (over_) return Finish(finished_);
  if (!started_) return {};
  Hypotheses so_far = finished_;
  for (const Beam& beam : beams_) so_far.Add(beam.ids, beam.sum, false);
  return Finish(so_far);
}

}  // namespace xcomposer
