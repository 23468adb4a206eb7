#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "base/check.h"

namespace xcomposer {
namespace {

struct Scored {
  int32_t id;
  float score;
};

std::vector<Scored> ApplyTopK(std::vector<Scored> items, int64_t k) {
  if (k == 0 || k >= static_cast<int64_t>(items.size())) return items;
  std::vector<float> scores;
  scores.reserve(items.size());
  for (const Scored& item : items) scores.push_back(item.score);
  std::nth_element(scores.begin(), scores.begin() + (k - 1), scores.end(), std::greater<>());
  const float last = scores[k - 1];
  std::erase_if(items, [last](const Scored& item) { return item.score < last; });
  return items;
}

/// `items` are in descending order.
std::vector<float> Softmax(const std::vector<Scored>& items) {
  std::vector<float> probabilities(items.size());
  double sum = 0;
  for (size_t i = 0; i < items.size(); ++i) {
    probabilities[i] = std::exp(items[i].score - items[0].score);
    sum += probabilities[i];
  }
  for (float& probability : probabilities) probability /= static_cast<float>(sum);
  return probabilities;
}

/// `items` are in descending order; drops from the end.
void ApplyTopP(double top_p, std::vector<Scored>* items) {
  const std::vector<float> probabilities = Softmax(*items);
  const float dropped_mass = static_cast<float>(1.0 - top_p);
  double sum = 0;
  while (items->size() > 1) {
    sum += probabilities[items->size() - 1];
    if (static_cast<float>(sum) > dropped_mass) break;
    items->pop_back();
  }
}

}  // namespace

std::vector<Candidate> SamplingDistribution(const SearchOptions& options,
                                            std::span<const float> scores) {
  const float temperature = static_cast<float>(options.temperature);
  std::vector<Scored> items;
  items.reserve(scores.size());
  for (size_t id = 0; id < scores.size(); ++id) {
    if (std::isinf(scores[id])) continue;  // forbidden by a processor
    const float score = options.temperature == 1.0 ? scores[id] : scores[id] / temperature;
    items.push_back({static_cast<int32_t>(id), score});
  }
  Require(
      !items.empty(), ErrorKind::kRequest,
      "every id is forbidden: no_repeat_ngram_size, min_length and min_new_tokens leave nothing");
  items = ApplyTopK(std::move(items), options.top_k);
  // Among equal scores the reference's ascending sort puts the larger id nearer to the best, and
  // drops the smaller one first.
  std::sort(items.begin(), items.end(), [](const Scored& a, const Scored& b) {
    return a.score != b.score ? a.score > b.score : a.id > b.id;
  });
  if (options.top_p < 1.0) ApplyTopP(options.top_p, &items);

  const std::vector<float> probabilities = Softmax(items);
  std::vector<Candidate> candidates;
  for (size_t i = 0; i < items.size(); ++i) {
    if (probabilities[i] > 0) candidates.push_back({items[i].id, probabilities[i]});
  }
  std::sort(candidates.begin(), candidates.end(), [](const Candidate& a, const Candidate& b) {
    return a.probability != b.probability ? a.probability > b.probability : a.id < b.id;
  });
  return candidates;
}

int32_t Draw(std::vector<Candidate> candidates, double uniform) {
  std::sort(candidates.begin(), candidates.end(),
            [](const Candidate& a, const Candidate& b) { return a.id < b.id; });
  double total = 0;
  for (const Candidate& candidate : candidates) total += candidate.probability;
  double left = uniform * total;
  for (const Candidate& candidate : candidates) {
    left -= candidate.probability;
    if (left < 0) return candidate.id;
  }
  return candidates.back().id;
}

}  // namespace xcomposer
