#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "engine/counter_random.h"
#include "kernels/cuda/sampling.h"

namespace xcomposer::cuda {

/// Moves the borders of a choice a little, in parts of all mass.
struct Nudge {
  double dropped = 0;
  double uniform = 0;
};

struct ReferenceChoice {
  int32_t id = -1;
  size_t kept = 0;  ///< ids that the draw is among
};

inline ReferenceChoice ReferenceChoose(const SamplingOptions& options,
                                       const std::vector<float>& logits,
                                       const std::vector<bool>& seen, int64_t step,
                                       const Nudge& nudge = {}) {
  struct Item {
    int32_t id;
    float score;
  };
  std::vector<Item> items;
  for (size_t id = 0; id < logits.size(); ++id) {
    float score = logits[id];
    if (seen[id]) {
      score = score < 0 ? score * options.repetition_penalty : score / options.repetition_penalty;
    }
    if (options.do_sample != 0) score /= options.temperature;
    if (!std::isfinite(score)) return {};
    items.push_back({static_cast<int32_t>(id), score});
  }
  const auto by_id = [](const Item& a, const Item& b) {
    return a.score != b.score ? a.score > b.score : a.id < b.id;
  };
  if (options.do_sample == 0) return {std::min_element(items.begin(), items.end(), by_id)->id, 1};
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
    const double limit = (static_cast<double>(options.dropped_mass) + nudge.dropped) * total_of();
    double sum = 0;
    while (items.size() > 1 && sum + mass(items.back()) <= limit) {
      sum += mass(items.back());
      items.pop_back();
    }
  }
  std::sort(items.begin(), items.end(), [](const Item& a, const Item& b) { return a.id < b.id; });
  double left = (UniformAt(options.seed, static_cast<uint64_t>(step)) + nudge.uniform) * total_of();
  for (const Item& item : items) {
    left -= mass(item);
    if (left < 0) return {item.id, items.size()};
  }
  return {items.back().id, items.size()};
}

/// What the engine's sampler chooses (src/engine/sampler.cpp, score_processors.cpp), in float64
/// where it matters not; sampling_engine_test.cpp compares the two. -1: a score is no finite
/// number.
inline int32_t ReferenceSample(const SamplingOptions& options, const std::vector<float>& logits,
                               const std::vector<bool>& seen, int64_t step) {
  return ReferenceChoose(options, logits, seen, step).id;
}

/// Whether rounding may decide what is chosen: a border is nearer than four times what sums may
/// part by.
inline bool IsNearABorder(const SamplingOptions& options, const std::vector<float>& logits,
                          const std::vector<bool>& seen, int64_t step) {
  const ReferenceChoice plain = ReferenceChoose(options, logits, seen, step);
  for (const double by : {-0x1p-18, 0x1p-18}) {
    const auto dropped = ReferenceChoose(options, logits, seen, step, {.dropped = by});
    const auto drawn = ReferenceChoose(options, logits, seen, step, {.uniform = by});
    if (dropped.kept != plain.kept || drawn.id != plain.id) return true;
  }
  return false;
}

}  // namespace xcomposer::cuda
