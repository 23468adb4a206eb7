#pragma once

#include <cstdint>

#include "config/model_config.h"

namespace xcomposer {

/// The base of the rotation for a forward call after which a sequence holds `total_length`
/// positions (cached and new): theta, and beyond the position table under dynamic scaling theta *
/// (factor * S / Lmax - (factor - 1)) ^ (d / (d - 2)). Model specification 6.3.
double RopeBase(const ModelConfig& config, int64_t total_length);

}  // namespace xcomposer
