#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/search_options.h"

namespace xcomposer {

struct Candidate {
  int32_t id = 0;
  float probability = 0;
};

/// What sampling draws from, given scores after the processors: temperature, then top-k (ties with
/// the last one stay), then top-p (drops the ids of lowest score while their sum is <= 1 - top_p;
/// the best stays), then softmax (model specification 8.6). Most probable first, equal ones by id;
/// ids of probability 0 are left out.
std::vector<Candidate> SamplingDistribution(const SearchOptions& options,
                                            std::span<const float> scores);

/// The candidate at `uniform` (in [0, 1)) of the probabilities summed in the order of ids. By
/// probability, two nearly equal candidates could trade places with the last bit of a score, which
/// depends on what else is in the batch.
int32_t Draw(std::vector<Candidate> candidates, double uniform);

}  // namespace xcomposer
