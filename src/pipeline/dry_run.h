#pragma once

#include "config/model_config.h"

namespace xcomposer {

/// Runs one picture and one prompt through the whole model on the meta device: every weight is
/// taken and every shape is checked, nothing is computed and no memory is used. Throws where
/// something does not fit.
void DryRun(const ModelConfig& config);

}  // namespace xcomposer
