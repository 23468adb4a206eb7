#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/search_options.h"

/// Rules that change the scores of one sequence before an id is chosen. `scores` are (vocab) logits
/// in greedy search and sampling, log-probabilities in beam search; `seen` are the ids that count
/// as present: Job::penalty_ids and the new ids. Arithmetic is float32, as in the reference.
namespace xcomposer {

/// Applies all that `options` ask for, in the reference's order: repetition penalty, repeated
/// n-grams, minimum length, minimum of new ids (model specification 8.6).
void ProcessScores(const SearchOptions& options, std::span<const int32_t> seen, int64_t new_ids,
                   std::span<float> scores);

/// Whether it would change anything.
bool ProcessesScores(const SearchOptions& options, std::span<const int32_t> seen, int64_t new_ids);

/// score / p where it is at least 0, score * p below; once per id however often it is present.
void PenaliseRepetition(float penalty, std::span<const int32_t> seen, std::span<float> scores);

/// Forbids (-inf) each id that would complete a run of n ids that is already there.
void ForbidRepeatedNgrams(int64_t n, std::span<const int32_t> seen, std::span<float> scores);

/// log(softmax(scores)), in place.
void LogSoftmax(std::span<float> scores);

/// The first place of the largest score, 0 where all are -inf. No score is NaN.
size_t LargestOf(std::span<const float> scores);

/// Throws kInternal if a score is NaN or infinite: a search over such scores would give arbitrary
/// ids.
void CheckFinite(std::span<const float> scores, int64_t new_ids);

}  // namespace xcomposer
