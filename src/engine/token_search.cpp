#include "engine/token_search.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/check.h"
#include "engine/counter_random.h"
#include "engine/sampler.h"
#include "engine/score_processors.h"

namespace xcomposer {

TokenSearch::TokenSearch(const SearchOptions& options, std::vector<int32_t> penalty_ids,
                         int64_t vocab)
    : options_(options),
      vocab_(vocab),
      prompt_length_(static_cast<int64_t>(penalty_ids.size())),
      ids_(std::move(penalty_ids)) {
  Check(!options_.do_sample || options_.seed.has_value(), "sampling needs a seed");
  seen_ = ids_;
  std::sort(seen_.begin(), seen_.end());
  seen_.erase(std::unique(seen_.begin(), seen_.end()), seen_.end());
}

int32_t TokenSearch::Choose(std::span<const float> processed) const {
  if (options_.do_sample) {
    return Draw(SamplingDistribution(options_, processed),
                UniformAt(*options_.seed, static_cast<uint64_t>(new_ids())));
  }
  const size_t best = LargestOf(processed);
  Require(
      !std::isinf(processed[best]), ErrorKind::kRequest,
      "every id is forbidden: no_repeat_ngram_size, min_length and min_new_tokens leave nothing");
  return static_cast<int32_t>(best);
}

SearchStep TokenSearch::Advance(std::span<const float> scores) {
  Check(static_cast<int64_t>(scores.size()) == vocab_, "scores: found ", scores.size(),
        ", expected ", vocab_);
  CheckFinite(scores, new_ids());
  if (!ProcessesScores(options_, ids_, new_ids())) return Accept(Choose(scores));
  std::vector<float> processed(scores.begin(), scores.end());  // (V)
  ProcessScores(options_, ids_, new_ids(), processed);
  return Accept(Choose(processed));
}

std::optional<IdChoice> TokenSearch::Choice() const {
  const auto seen = static_cast<int64_t>(ids_.size());
  if (options_.no_repeat_ngram_size > 0 || seen < options_.min_length ||
      new_ids() < options_.min_new_tokens) {
    return std::nullopt;
  }
  IdChoice choice;
  choice.repetition_penalty = static_cast<float>(options_.repetition_penalty);
  if (choice.repetition_penalty != 1.0f) choice.seen = seen_;
  choice.do_sample = options_.do_sample;
  if (options_.do_sample) {
    choice.temperature = static_cast<float>(options_.temperature);
    choice.top_k = options_.top_k;
    choice.dropped_mass = static_cast<float>(1.0 - options_.top_p);
    choice.seed = *options_.seed;
    choice.step = static_cast<uint64_t>(new_ids());
  }
  if (!choice.IsSound()) return std::nullopt;  // a number beyond float32
  return choice;
}

void TokenSearch::AddSeen(int32_t id) {
  const auto at = std::lower_bound(seen_.begin(), seen_.end(), id);
  if (at == seen_.end() || *at != id) seen_.insert(at, id);
}

SearchStep TokenSearch::Accept(int32_t id) {
  Check(id >= 0 && id < vocab_, "id ", id, " was chosen of a vocabulary of ", vocab_);
  ids_.push_back(id);
  AddSeen(id);

  const auto& stop_ids = options_.eos_token_id;
  stopped_ = std::find(stop_ids.begin(), stop_ids.end(), id) != stop_ids.end();
  SearchStep step;
  step.settled = {id};
  if (!stopped_ && new_ids() < options_.max_new_tokens) step.next = {{0, id}};
  return step;
}

SearchOutput TokenSearch::Output() const {
  return {{ids_.begin() + prompt_length_, ids_.end()}, stopped_, std::nullopt};
}

}  // namespace xcomposer
