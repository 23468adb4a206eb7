#include "placement/device_map_json.h"

#include <map>
#include <optional>
#include <set>

#include "base/check.h"
#include "config/json_text.h"
#include "nlohmann/json.hpp"

namespace xcomposer {
namespace {

using Json = nlohmann::json;

std::string DeviceOf(const std::string& module, const Json& value) {
  std::string device;
  if (value.is_number_integer()) {
    device = "cuda:" + value.dump();
  } else if (value.is_string()) {
    device = value.get<std::string>();
  }
  Require(!device.empty(), ErrorKind::kPlan, "the device map gives ", module, " the device ",
          value.dump(), ", expected a number or a name");
  CheckDeviceName(device);
  return device;
}

/// The key of `devices` that covers `module`: itself, or its longest prefix that ends at a dot.
std::optional<std::string> CoveringKey(const std::map<std::string, std::string>& devices,
                                       std::string module) {
  while (true) {
    if (devices.count(module) != 0) return module;
    if (module.empty()) return std::nullopt;
    const size_t dot = module.rfind('.');
    module = dot == std::string::npos ? "" : module.substr(0, dot);
  }
}

std::vector<std::string> AllModules(const ModelConfig& config) {
  return ModulesOfStage({{{"cpu", 0, config.layers}}}, config, 0);
}

std::map<std::string, std::string> DevicesByModule(const std::string& text,
                                                   const ModelConfig& config) {
  const Json json = ParseJsonObject(text, ErrorKind::kPlan, "the device map");
  std::map<std::string, std::string> given;
  for (const auto& [module, value] : json.items()) given[module] = DeviceOf(module, value);
  std::map<std::string, std::string> devices;
  std::set<std::string> used;
  std::string forgotten;
  for (const std::string& module : AllModules(config)) {
    if (const auto key = CoveringKey(given, module)) {
      devices[module] = given[*key];
      used.insert(*key);
    } else {
      forgotten += (forgotten.empty() ? "" : ", ") + module;
    }
  }
  Require(forgotten.empty(), ErrorKind::kPlan, "the device map gives no device for ", forgotten);
  for (const auto& [module, device] : given) {
    Require(used.count(module) != 0, ErrorKind::kPlan, "the device map names ", module,
            ", which is no module of this model or is covered by its parts");
  }
  return devices;
}

}  // namespace

std::string ToHuggingFaceJson(const DeviceMap& map, const ModelConfig& config) {
  CheckDeviceMap(map, config);
  auto json = nlohmann::ordered_json::object();  // in the order of computation
  for (size_t stage = 0; stage < map.stages.size(); ++stage) {
    const std::string& device = map.stages[stage].device;
    for (const std::string& module : ModulesOfStage(map, config, stage)) {
      if (device.rfind("cuda:", 0) == 0) {
        json[module] = std::stoi(device.substr(5));
      } else {
        json[module] = device;
      }
    }
  }
  return json.dump(2);
}

DeviceMap FromHuggingFaceJson(const std::string& text, const ModelConfig& config) {
  const std::map<std::string, std::string> devices = DevicesByModule(text, config);
  DeviceMap map;
  const std::string& first = devices.at("model.tok_embeddings");
  for (const std::string& module : FirstModules(config)) {
    Require(devices.at(module) == first, ErrorKind::kPlan, "the device map puts ", module, " on ",
            devices.at(module), " and model.tok_embeddings on ", first,
            "; both must be on the first device");
  }
  map.stages.push_back({first, 0, 0});
  std::set<std::string> left;
  for (int64_t n = 0; n < config.layers; ++n) {
    const std::string& device = devices.at("model.layers." + std::to_string(n));
    if (device != map.stages.back().device) {
      left.insert(map.stages.back().device);
      Require(left.count(device) == 0, ErrorKind::kPlan, "the device map returns to ", device,
              " at model.layers.", n, "; layers of one device must be contiguous");
      map.stages.push_back({device, n, n});
    }
    map.stages.back().end_layer = n + 1;
  }
  const std::string& last = devices.at("output");
  Require(devices.at("model.norm") == last, ErrorKind::kPlan,
          "the device map puts model.norm and output on different devices");
  if (last != map.stages.back().device) {
    Require(left.count(last) == 0, ErrorKind::kPlan, "the device map puts output on ", last,
            ", expected the device of the last layer or one behind it");
    map.stages.push_back({last, config.layers, config.layers});
  }
  return map;
}

}  // namespace xcomposer
