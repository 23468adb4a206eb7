#include "placement/device_map_json.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "base/check.h"
#include "nlohmann/json.hpp"
#include "placement/unique_keys.h"

namespace xcomposer {
namespace {

using Json = nlohmann::json;
using Devices = std::map<std::string, std::string>;  // by module

bool IsNumber(const std::string& text) {
  return !text.empty() && text.size() <= 4 &&
         text.find_first_not_of("0123456789") == std::string::npos;
}

/// "a:cuda:0", "a/cuda:0" and "a:0" are the device a/cuda:0.
std::string Canonical(const std::string& name, const std::vector<std::string>& known) {
  if (IsDeviceName(name)) return name;
  if (IsNumber(name)) return "cuda:" + name;
  for (const std::string& device : known) {
    std::string with_colon = device;
    std::replace(with_colon.begin(), with_colon.end(), '/', ':');
    if (name == device || name == with_colon) return device;
  }
  const size_t end = name.find_first_of("/:");
  if (end != std::string::npos && end > 0) {
    const std::string device = name.substr(end + 1);
    if (IsDeviceName(device)) return name.substr(0, end) + "/" + device;
    if (IsNumber(device)) return name.substr(0, end) + "/cuda:" + device;
  }
  throw Error(
      ErrorKind::kDevice,
      StrCat("the device map names '", name,
             "', expected a number, cpu, cpu:N, cuda:N or node:cuda:N",
             name == "disk" || name == "meta" ? "; parts are never left out of memory" : ""),
      {{"device", name}});
}

/// A key as messages show it: that of all modules is empty.
std::string Shown(const std::string& key) { return key.empty() ? "\"\"" : key; }

std::string DeviceOf(const std::string& module, const Json& value,
                     const std::vector<std::string>& known) {
  const bool number = value.is_number_integer() && IsNumber(value.dump());
  Require(number || value.is_string(), ErrorKind::kPlan, "the device map gives ", Shown(module),
          " the device ", value.dump(), ", expected a number or a name");
  return Canonical(number ? value.dump() : value.get<std::string>(), known);
}

/// The key of `devices` that covers `module`: itself, or its longest prefix that ends at a dot.
std::optional<std::string> CoveringKey(const Devices& devices, std::string module) {
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

std::string Join(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

/// A map that may be wrong in several ways, looked at from all sides before it is refused.
class Reader {
 public:
  Reader(const ModelConfig& config, Devices given) : config_(config), given_(std::move(given)) {}

  DeviceMap Read() {
    GiveDevices();
    NameUnused();
    ThrowIfAny();  // what follows needs a device for every module
    CheckFirst();
    DeviceMap map = Blocks();
    ThrowIfAny();
    return map;
  }

 private:
  /// Each module's device: of the key that covers it, unless keys of its own parts say otherwise.
  void GiveDevices() {
    std::vector<std::string> forgotten;
    for (const std::string& module : AllModules(config_)) {
      std::set<std::string> devices;
      for (auto it = given_.lower_bound(module + "."); it != given_.end(); ++it) {
        if (it->first.rfind(module + ".", 0) != 0) break;
        devices.insert(it->second);
        used_.insert(it->first);
      }
      if (const auto key = CoveringKey(given_, module)) {
        devices.insert(given_[*key]);
        used_.insert(*key);
      }
      if (devices.empty()) {
        forgotten.push_back(module);
      } else {
        devices_[module] = *devices.begin();
      }
      if (devices.size() > 1) {
        problems_.push_back(StrCat("it splits ", module, " over ",
                                   Join({devices.begin(), devices.end()}),
                                   "; a module runs on one device"));
      }
    }
    if (!forgotten.empty()) problems_.push_back("it gives no device for " + Join(forgotten));
  }

  void NameUnused() {
    for (const auto& [module, device] : given_) {
      if (used_.count(module) != 0) continue;
      problems_.push_back(StrCat("it names ", Shown(module),
                                 ", which is no module of this model or is covered by its parts"));
    }
  }

  /// Text rows and picture rows are joined where both are made.
  void CheckFirst() {
    const std::string& first = devices_["model.tok_embeddings"];
    for (const std::string& module : FirstModules(config_)) {
      if (devices_[module] == first) continue;
      problems_.push_back(StrCat("it separates ", module, " (", devices_[module],
                                 ") from model.tok_embeddings (", first,
                                 "); both must be on the first device"));
    }
    if (devices_["model.norm"] != devices_["output"]) {
      problems_.push_back(StrCat("it separates model.norm (", devices_["model.norm"],
                                 ") from output (", devices_["output"],
                                 "); both must be on the last device"));
    }
  }

  DeviceMap Blocks() {
    DeviceMap map;
    map.stages.push_back({devices_["model.tok_embeddings"], 0, 0});
    std::set<std::string> left;
    for (int64_t n = 0; n < config_.layers; ++n) {
      const std::string& device = devices_["model.layers." + std::to_string(n)];
      if (device != map.stages.back().device) {
        left.insert(map.stages.back().device);
        if (left.count(device) != 0) {
          problems_.push_back(StrCat("it returns to ", device, " at model.layers.", n,
                                     "; the layers of one device must follow each other"));
          return map;
        }
        map.stages.push_back({device, n, n});
      }
      map.stages.back().end_layer = n + 1;
    }
    const std::string& last = devices_["output"];
    if (last != map.stages.back().device) {
      if (left.count(last) != 0) {
        problems_.push_back(StrCat("it puts output on ", last, ", but the last layer is on ",
                                   map.stages.back().device,
                                   "; output must be there or on a device of its own"));
      }
      map.stages.push_back({last, config_.layers, config_.layers});
    }
    return map;
  }

  void ThrowIfAny() const {
    if (problems_.empty()) return;
    std::string message = "the device map cannot be used: ";
    for (size_t i = 0; i < problems_.size(); ++i) message += (i ? "; " : "") + problems_[i];
    throw Error(ErrorKind::kPlan, message);
  }

  const ModelConfig& config_;
  Devices given_;
  Devices devices_;
  std::set<std::string> used_;
  std::vector<std::string> problems_;
};

}  // namespace

std::string ToHuggingFaceJson(const DeviceMap& map, const ModelConfig& config) {
  CheckStages(map, config);
  auto json = nlohmann::ordered_json::object();  // in the order of computation
  for (size_t stage = 0; stage < map.stages.size(); ++stage) {
    std::string device = map.stages[stage].device;
    const bool numbered = device.rfind("cuda:", 0) == 0 && IsNumber(device.substr(5));
    if (const size_t slash = device.find('/'); slash != std::string::npos) device[slash] = ':';
    for (const std::string& module : ModulesOfStage(map, config, stage)) {
      if (numbered) {
        json[module] = std::stoi(device.substr(5));
      } else {
        json[module] = device;
      }
    }
  }
  return json.dump(2);
}

DeviceMap FromHuggingFaceJson(const std::string& text, const ModelConfig& config,
                              const std::vector<std::string>& known) {
  const Json json = ParseUniqueKeys(text, "the device map");
  Devices given;
  for (const auto& [module, value] : json.items()) given[module] = DeviceOf(module, value, known);
  return Reader(config, std::move(given)).Read();
}

}  // namespace xcomposer
