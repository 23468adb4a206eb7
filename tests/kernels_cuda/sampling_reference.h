#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "engine/counter_random.h"
#include "kernels/cuda/sampling.h"

namespace xcomposer::cuda {

/// What the engine's sampler chooses (src/engine/sampler.cpp, score_processors.cpp), in float64
/// where it matters not; sampling_engine_test.cpp compares the two.
inline int32_t ReferenceSample(const SamplingOptions& options, const std::vector<float>& logits,
                               const std::vector<bool>& seen, int64_t step) {
  struct Item {
    int32_t id;
    float score;
  };
  std::vector<Item> items;
  for (size_t id = 0; id < logits.size(); ++id) {
    if (!std::isfinite(logits[id])) return -1;
    float score = logits[id];
    if (seen[id]) {
      score = score < 0 ? score * options.repetition_penalty : score / options.repetition_penalty;
    }
    items.push_back({static_cast<int32_t>(id), score});
  }
  const auto by_id = [](const Item& a, const Item& b) {
    return a.score != b.score ? a.score > b.score : a.id < b.id;
  };
  if (options.do_sample == 0) return std::min_element(items.begin(), items.end(), by_id)->id;
  for (Item& item : items) item.score /= options.temperature;
  std::sort(items.begin(), items.end(), [](const Item& a, const Item& b) {
    return a.score != b.score ? a.score > b.score : a.id > b.id;
  });
  const auto top_k = static_cast<size_t>(options.top_k);
  if (top_k > 0 && top_k < items.size()) {
    const float last = items[top_k - 1].score;
    while (items.back().score < last) items.pop_back();
  }
  const float largest = items[0].score;
  const auto mass = [largest](const Item& item) {
    return std::exp(static_cast<double>(item.score) - static_cast<double>(largest));
  };
  const auto total_of = [&] {
    double total = 0;
    for (const Item& item : items) total += mass(item);
    return total;
  };
  if (options.dropped_mass > 0) {
    const double limit = static_cast<double>(options.dropped_mass) * total_of();
    double sum = 0;
    while (items.size() > 1 && sum + mass(items.back()) <= limit) {
      sum += mass(items.back());
      items.pop_back();
    }
  }
  std::sort(items.begin(), items.end(), [](const Item& a, const Item& b) { return a.id < b.id; });
  double left = UniformAt(options.seed, static_cast<uint64_t>(step)) * total_of();
  for (const Item& item : items) {
    left -= mass(item);
    if (left < 0) return item.id;
  }
  return items.back().id;
}

}  // namespace xcomposer::cuda
