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
}

int32_t TokenSearch::Choose(std::span<const float> processed) const {
  if (options_.do_sample) {
    return Draw(SamplingDistribution(options_, processed),
                UniformAt(*options_.seed, static_cast<uint64_t>(new_ids())));
  }
  const auto best = std::max_element(processed.begin(), processed.end());
  Require(
      !std::isinf(*best), ErrorKind::kRequest,
      "every id is forbidden: no_repeat_ngram_size, min_length and min_new_tokens leave nothing");
  return static_cast<int32_t>(best - processed.begin());
}

SearchStep TokenSearch::Advance(std::span<const float> scores) {
  Check(static_cast<int64_t>(scores.size()) == vocab_, "scores: found ", scores.size(),
        ", expected ", vocab_);
  CheckFinite(scores, new_ids());
  std::vector<float> processed(scores.begin(), scores.end());  // (V)
  ProcessScores(options_, ids_, new_ids(), processed);
  const int32_t id = Choose(processed);
  ids_.push_back(id);

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
