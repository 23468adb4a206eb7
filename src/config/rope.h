#pragma once

#include <cstdint>
#include <vector>

#include "config/model_config.h"

namespace xcomposer {

/// The base of the rotation for a forward call after which a sequence holds `total_length`
/// positions (cached and new): theta, and beyond the position table under dynamic scaling theta *
/// (factor * S / Lmax - (factor - 1)) ^ (d / (d - 2)). Model specification 6.3.
double RopeBase(const ModelConfig& config, int64_t total_length);

/// 1 / float(base)^(2 j / head_dim) for j below head_dim / 2, in float32 as the reference forms it
/// (model specification 6.4).
std::vector<float> InverseFrequencies(double base, int64_t head_dim);

}  // namespace xcomposer
