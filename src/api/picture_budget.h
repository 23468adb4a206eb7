#pragma once

#include <cstdint>
#include <vector>

#include "config/model_config.h"
#include "placement/memory_formula.h"

namespace xcomposer::api {

/// What the first stage can spend on pictures, beside everything else that was planned.
struct PictureBudget {
  ModelConfig config;
  ComputeTraits traits;
  int64_t room = 0;               ///< bytes for features and the peak of encoding
  int64_t layer_activations = 0;  ///< part of the plan, free while pictures are encoded
};

/// Throws kCapacity with numbers where pictures of a request cannot be encoded within the budget.
void RequirePicturesFit(const PictureBudget& budget, const std::vector<PictureShape>& pictures);

}  // namespace xcomposer::api
