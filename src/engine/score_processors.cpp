#include "engine/score_processors.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "base/check.h"

namespace xcomposer {
namespace {

constexpr float kForbidden = -std::numeric_limits<float>::infinity();

void ForbidStopIds(const SearchOptions& options, std::span<float> scores) {
  for (const int32_t id : options.eos_token_id) {
    if (static_cast<size_t>(id) < scores.size()) scores[id] = kForbidden;
  }
}

}  // namespace

void PenaliseRepetition(float penalty, std::span<const int32_t> seen, std::span<float> scores) {
  // All are read before any is written, so that an id present twice is not penalised twice.
  std::vector<float> penalised(seen.size());
  for (size_t i = 0; i < seen.size(); ++i) {
    const float score = scores[seen[i]];
    penalised[i] = score < 0 ? score * penalty : score / penalty;
  }
  for (size_t i = 0; i < seen.size(); ++i) scores[seen[i]] = penalised[i];
}

void ForbidRepeatedNgrams(int64_t n, std::span<const int32_t> seen, std::span<float> scores) {
  const int64_t length = static_cast<int64_t>(seen.size());
  if (length + 1 < n) return;
  const auto prefix = seen.last(n - 1);
  for (int64_t begin = 0; begin + n <= length; ++begin) {
    if (std::equal(prefix.begin(), prefix.end(), seen.begin() + begin)) {
      scores[seen[begin + n - 1]] = kForbidden;
    }
  }
}

bool ProcessesScores(const SearchOptions& options, std::span<const int32_t> seen, int64_t new_ids) {
  return options.repetition_penalty != 1.0 || options.no_repeat_ngram_size > 0 ||
         static_cast<int64_t>(seen.size()) < options.min_length || new_ids < options.min_new_tokens;
}

void ProcessScores(const SearchOptions& options, std::span<const int32_t> seen, int64_t new_ids,
                   std::span<float> scores) {
  if (options.repetition_penalty != 1.0) {
    PenaliseRepetition(static_cast<float>(options.repetition_penalty), seen, scores);
  }
  if (options.no_repeat_ngram_size > 0) {
    ForbidRepeatedNgrams(options.no_repeat_ngram_size, seen, scores);
  }
  if (static_cast<int64_t>(seen.size()) < options.min_length || new_ids < options.min_new_tokens) {
    ForbidStopIds(options, scores);
  }
}

void LogSoftmax(std::span<float> scores) {
  const float largest = *std::max_element(scores.begin(), scores.end());
  double sum = 0;
  for (const float score : scores) sum += std::exp(score - largest);
  const float log_sum = std::log(static_cast<float>(sum));
  // In this order: largest + log_sum would lose digits when the scores are large.
  for (float& score : scores) score = score - largest - log_sum;
}

size_t LargestOf(std::span<const float> scores) {
  constexpr size_t kLanes = 16;
  constexpr size_t kBlock = 256 * kLanes;
  size_t best = 0;  // the first place of its block
  float largest = -std::numeric_limits<float>::infinity();
  for (size_t begin = 0; begin < scores.size(); begin += kBlock) {
    const auto block = scores.subspan(begin, std::min(kBlock, scores.size() - begin));
    float lanes[kLanes];
    std::fill_n(lanes, kLanes, largest);
    size_t i = 0;
    for (; i + kLanes <= block.size(); i += kLanes) {
      for (size_t lane = 0; lane < kLanes; ++lane) {
        const float score = block[i + lane];
        lanes[lane] = score > lanes[lane] ? score : lanes[lane];
      }
    }
    for (; i < block.size(); ++i) lanes[0] = std::max(lanes[0], block[i]);
    const float most = *std::max_element(lanes, lanes + kLanes);
    if (most > largest) {
      largest = most;
      best = begin;
    }
  }
  const auto rest = scores.subspan(best);
  return best + static_cast<size_t>(std::find(rest.begin(), rest.end(), largest) - rest.begin());
}

void CheckFinite(std::span<const float> scores, int64_t new_ids) {
  constexpr uint32_t kExponent = 0x7f800000;
  uint32_t broken = 0;
  for (const float score : scores) {
    broken |= static_cast<uint32_t>((std::bit_cast<uint32_t>(score) & kExponent) == kExponent);
  }
  if (broken == 0) return;
  for (size_t id = 0; id < scores.size(); ++id) {
    Require(std::isfinite(scores[id]), ErrorKind::kCheckpoint, "the model's score of id ", id,
            " for new id ", new_ids, " is ", scores[id],
            ", expected a finite number: some weights are no numbers, or too large for the type in"
            " which they are computed with");
  }
}

}  // namespace xcomposer
