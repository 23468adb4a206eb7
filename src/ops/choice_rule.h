#pragma once

#include <cstdint>

namespace xcomposer::ops {

/// How one row's id is chosen from its scores (engine/sampler.h), as it lies in ChoiceTable::rules.
struct ChoiceRule {
  uint64_t seed = 0;
  float temperature = 1.0f;
  float dropped_mass = 0.0f;  ///< 1 - top_p
  float repetition_penalty = 1.0f;
  int32_t top_k = 0;      ///< 0: no limit
  int32_t do_sample = 0;  ///< 0: the largest score, of equal ones the smallest id
  int32_t unused = 0;
};

}  // namespace xcomposer::ops
