#pragma once

#include <string>
#include <vector>

#include "config/model_config.h"
#include "placement/device_map.h"

namespace xcomposer {

/// The map as Hugging Face's accelerate writes it: {"vit": "cpu", "model.layers.0": 0, ...}; cuda:N
/// is written as the number N, a device of a named node as "node:cuda:N".
std::string ToHuggingFaceJson(const DeviceMap& map, const ModelConfig& config);

/// Reads such a map; a module takes the device of its longest prefix ("" is everything). `known`
/// are names of devices besides cpu and cuda:N. Throws kPlan for text that is no such map and, in
/// one error, for everything that is wrong with it: modules without a device (plora_glb_GN is the
/// classic), keys that name no module, parts that must be on one device and are not, a module that
/// is split, layers that return to a device.
DeviceMap FromHuggingFaceJson(const std::string& text, const ModelConfig& config,
                              const std::vector<std::string>& known = {});

}  // namespace xcomposer
