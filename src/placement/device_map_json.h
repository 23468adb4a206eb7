#pragma once

#include <string>

#include "config/model_config.h"
#include "placement/device_map.h"

namespace xcomposer {

/// The map as Hugging Face's accelerate writes it: {"vit": "cpu", "model.layers.0": 0, ...}; cuda:N
/// is written as the number N.
std::string ToHuggingFaceJson(const DeviceMap& map, const ModelConfig& config);

/// Reads such a map; a module takes the device of its longest prefix ("" is everything). Throws
/// kPlan for text that is no such map, modules without a device (all are named: plora_glb_GN is the
/// classic), keys that name no module, layers that jump back and forth, and parts that are not on
/// the first or last device where they belong.
DeviceMap FromHuggingFaceJson(const std::string& text, const ModelConfig& config);

}  // namespace xcomposer
