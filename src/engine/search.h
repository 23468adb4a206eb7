#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "batch/batch.h"
#include "engine/search_options.h"

namespace xcomposer {

/// One sequence of the next step: a copy of sequence `parent` of this step with `id` appended.
struct Continuation {
  int64_t parent = 0;
  int32_t id = 0;
};

struct SearchStep {
  /// Ids of the answer that are final from now on. Greedy search and sampling settle one at each
  /// step, beam search all of them at the last.
  std::vector<int32_t> settled;

  /// What to run next, in order; empty when the search is over.
  std::vector<Continuation> next;
};

struct SearchOutput {
  std::vector<int32_t> ids;  ///< new ids, with the end id if one ended it
  bool stopped = false;      ///< by an end id
  std::optional<double> score;
};

/// Chooses the ids of one answer. Knows no model: scores go in, what to run next comes out.
/// Not thread-safe.
class Search {
 public:
  virtual ~Search() = default;

  /// Sequences whose scores the next Advance takes: 1 at first (all beams start alike), then as
  /// many as the last step named.
  virtual int64_t width() const = 0;

  /// `scores` (width, vocab) as the model gave them.
  virtual SearchStep Advance(std::span<const float> scores) = 0;

  /// How the next id follows from the scores where nothing else counts: then Accept may take the
  /// place of Advance. Nothing where the search itself must see them.
  virtual std::optional<IdChoice> Choice() const { return std::nullopt; }

  /// Advances by the id that Choice() leads to.
  virtual SearchStep Accept(int32_t id);

  /// The answer, or the best so far.
  virtual SearchOutput Output() const = 0;
};

/// The search that `options` ask for; their seed must be set where they sample. Throws as Validate
/// does, and kRequest for `penalty_ids` that are empty or outside the vocabulary.
std::unique_ptr<Search> MakeSearch(const SearchOptions& options, std::vector<int32_t> penalty_ids,
                                   int64_t vocab);

}  // namespace xcomposer
