#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace xcomposer {

/// When a beam search that has num_beams finished hypotheses stops: Hugging Face's
/// `early_stopping`.
enum class EarlyStop {
  kNo,  ///< false: when the best candidate of this step, at its present length, cannot win any more
  kYes,    ///< true: at once
  kNever,  ///< "never": when no continuation up to the longest allowed length can win any more
};

/// How ids are chosen from scores. Names and meaning are Hugging Face's (transformers 4.33), and so
/// are the defaults: what a model kind or a request prefers is set by whoever fills this in.
struct SearchOptions {
  int64_t max_new_tokens = 1024;
  int64_t min_new_tokens = 0;
  int64_t min_length = 0;  ///< counts the ids the processors see, see Job::penalty_ids
  int64_t num_beams = 1;
  bool do_sample = false;  ///< not together with beams
  double temperature = 1.0;
  int64_t top_k = 50;  ///< 0: no limit
  double top_p = 1.0;
  double repetition_penalty = 1.0;
  int64_t no_repeat_ngram_size = 0;  ///< 0: off
  double length_penalty = 1.0;
  EarlyStop early_stopping = EarlyStop::kNo;
  std::vector<int32_t>
      eos_token_id;  ///< any of these ends the answer; a beam's answer ends in the first
  std::optional<uint64_t> seed;  ///< absent: drawn when the job is submitted, and reported
};

/// Throws Error(kRequest) that names the field, what was found and what is allowed. `where()` has
/// the key "field".
void Validate(const SearchOptions& options, int64_t vocab);

/// Ids in a step of beam search that are looked at, per beam: enough that num_beams go on even if
/// every stop id is among them (model specification 8.6).
int64_t CandidatesPerBeam(const SearchOptions& options);

}  // namespace xcomposer
