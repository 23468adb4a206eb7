#include "engine/search_options.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "base/check.h"

namespace xcomposer {
namespace {

/// More would need more scores than any step can hold.
constexpr int64_t kMaxBeams = 256;
constexpr int64_t kMaxNewTokens = int64_t{1} << 24;

template <typename Value>
void Allow(bool allowed, const char* field, const Value& found, const std::string& range) {
  if (allowed) return;
  throw Error(ErrorKind::kRequest, StrCat(field, ": found ", found, ", allowed is ", range),
              {{"field", field}});
}

void AllowRange(const char* field, int64_t found, int64_t low, int64_t high) {
  Allow(found >= low && found <= high, field, found, StrCat(low, " to ", high));
}

}  // namespace

int64_t CandidatesPerBeam(const SearchOptions& options) {
  return std::max<int64_t>(2, 1 + static_cast<int64_t>(options.eos_token_id.size()));
}

void Validate(const SearchOptions& options, int64_t vocab) {
  AllowRange("max_new_tokens", options.max_new_tokens, 1, kMaxNewTokens);
  AllowRange("min_new_tokens", options.min_new_tokens, 0, kMaxNewTokens);
  AllowRange("min_length", options.min_length, 0, kMaxNewTokens);
  AllowRange("num_beams", options.num_beams, 1, kMaxBeams);
  AllowRange("no_repeat_ngram_size", options.no_repeat_ngram_size, 0, kMaxNewTokens);
  Allow(std::isfinite(options.repetition_penalty) && options.repetition_penalty > 0,
        "repetition_penalty", options.repetition_penalty, "any number above 0");
  Allow(std::isfinite(options.length_penalty), "length_penalty", options.length_penalty,
        "any finite number");
  for (const int32_t id : options.eos_token_id) {
    Allow(id >= 0, "eos_token_id", id, "0 or more");
  }
  if (options.do_sample) {
    Allow(options.num_beams == 1, "num_beams", options.num_beams, "1 together with do_sample");
    Allow(std::isfinite(options.temperature) && options.temperature > 0, "temperature",
          options.temperature, "any number above 0 (do_sample false chooses the best id)");
    Allow(options.top_k >= 0, "top_k", options.top_k, "0 (no limit) or more");
    Allow(options.top_p >= 0 && options.top_p <= 1, "top_p", options.top_p, "0 to 1");
  }
  if (options.num_beams > 1) {
    Allow(CandidatesPerBeam(options) <= vocab, "eos_token_id",
          StrCat(options.eos_token_id.size(), " ids"),
          StrCat("fewer than the vocabulary's ", vocab, " ids in beam search"));
  }
}

}  // namespace xcomposer
