#pragma once

#include "config/model_config.h"

namespace xcomposer {

/// The configuration of the published checkpoint of a kind, from configs/models and without any
/// file: what random weights are measured with.
ModelConfig PublishedConfig(Kind kind);

}  // namespace xcomposer
