#include "placement/device_map.h"

#include <algorithm>

#include "base/check.h"

namespace xcomposer {

bool IsDeviceName(const std::string& name) {
  const size_t colon = name.find(':');
  const std::string kind = name.substr(0, colon);
  const std::string number = colon == std::string::npos ? "" : name.substr(colon + 1);
  const bool digits =
      !number.empty() && number.size() <= 4 &&
      std::all_of(number.begin(), number.end(), [](char c) { return c >= '0' && c <= '9'; });
  return (kind == "cpu" && (colon == std::string::npos || digits)) || (kind == "cuda" && digits);
}

void CheckDeviceName(const std::string& name) {
  const size_t slash = name.find('/');
  const bool on_node = slash != std::string::npos && slash > 0;
  if (IsDeviceName(on_node ? name.substr(slash + 1) : name)) return;
  throw Error(ErrorKind::kDevice,
              StrCat("'", name, "' is no device, expected cpu, cpu:N or cuda:N, or node/cuda:N"),
              {{"device", name}});
}

std::vector<std::string> FirstModules(const ModelConfig& config) {
  std::vector<std::string> modules = {"vit", "vision_proj"};
  if (config.vision.tiled) modules.insert(modules.end(), {"plora_glb_GN", "plora_sub_GN"});
  modules.push_back("model.tok_embeddings");
  return modules;
}

std::vector<std::string> LastModules() { return {"model.norm", "output"}; }

DeviceMap EvenDeviceMap(const ModelConfig& config, const std::vector<std::string>& devices) {
  Require(!devices.empty(), ErrorKind::kPlan, "no device was named");
  const auto count = static_cast<int64_t>(devices.size());
  DeviceMap map;
  int64_t layer = 0;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t share = config.layers / count + (i >= count - config.layers % count ? 1 : 0);
    map.stages.push_back({devices[static_cast<size_t>(i)], layer, layer + share});
    layer += share;
  }
  CheckDeviceMap(map, config);
  return map;
}

void CheckDeviceMap(const DeviceMap& map, const ModelConfig& config) {
  for (const StagePlace& stage : map.stages) CheckDeviceName(stage.device);
  CheckStages(map, config);
}

void CheckStages(const DeviceMap& map, const ModelConfig& config) {
  Require(!map.stages.empty(), ErrorKind::kPlan, "the device map has no stage");
  int64_t layer = 0;
  for (const StagePlace& stage : map.stages) {
    Require(stage.first_layer == layer && stage.end_layer >= layer, ErrorKind::kPlan,
            "the stage on ", stage.device, " holds layers ", stage.first_layer, " to ",
            stage.end_layer - 1, ", expected to start at ", layer,
            "; stages must be contiguous and in order");
    layer = stage.end_layer;
  }
  Require(layer == config.layers, ErrorKind::kPlan, "the device map places ", layer,
          " layers, the model has ", config.layers);
}

std::vector<std::string> ModulesOfStage(const DeviceMap& map, const ModelConfig& config,
                                        size_t stage) {
  Check(stage < map.stages.size(), "stage ", stage, " of ", map.stages.size());
  std::vector<std::string> modules;
  if (stage == 0) modules = FirstModules(config);
  for (int64_t n = map.stages[stage].first_layer; n < map.stages[stage].end_layer; ++n) {
    modules.push_back("model.layers." + std::to_string(n));
  }
  if (stage + 1 == map.stages.size()) {
    for (std::string& module : LastModules()) modules.push_back(std::move(module));
  }
  return modules;
}

}  // namespace xcomposer
