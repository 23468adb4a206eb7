// The JSON files beside the weights, and a device map: whatever is accepted must lead to a table of
// weights and a map that hold together.
#include <cstdint>
#include <string>
#include <vector>

#include "config/generation_defaults.h"
#include "config/model_config.h"
#include "config/quantization.h"
#include "config/weight_names.h"
#include "placement/cluster_json.h"
#include "placement/device_map.h"
#include "placement/device_map_json.h"
#include "xcomposer/error.h"

namespace {

template <typename Parse>
void Try(Parse parse) {
  try {
    parse();
  } catch (const xcomposer::Error&) {
    // Refused, as most inputs are.
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  Try([&] {
    const xcomposer::ModelConfig config = xcomposer::ParseConfig(text);
    if (config.layers > 64) return;  // the table grows with the layers, and so does the time
    if (xcomposer::ParameterCount(config) <= 0) __builtin_trap();
    for (const xcomposer::WeightSpec& spec : xcomposer::WeightTable(config)) {
      for (const int64_t extent : spec.shape) {
        if (extent < 0) __builtin_trap();
      }
    }
  });
  Try([&] {
    const auto declared = xcomposer::ParseQuantization(text, "quantize_config.json");
    std::vector<std::string> notes;
    const auto settled = xcomposer::SettleQuantization(nullptr, declared, 4096, notes);
    if (settled.GroupsOf(14336) <= 0) __builtin_trap();
    if (const auto head = settled.Head(); head && head.GroupsOf(4096) <= 0) __builtin_trap();
  });
  Try([&] {
    xcomposer::GenerationDefaults defaults = xcomposer::ChatDefaults(xcomposer::Kind::kVl7b);
    xcomposer::MergeGenerationConfig(text, defaults);
  });
  Try([&] {
    xcomposer::ModelConfig config;
    config.layers = 3;
    config.vision.tiled = true;
    xcomposer::CheckDeviceMap(xcomposer::FromHuggingFaceJson(text, config), config);
  });
  Try([&] {
    xcomposer::Cluster cluster = xcomposer::ParseCluster(text);
    // What was accepted is written and read again as the same.
    if (xcomposer::ToJson(xcomposer::ParseCluster(xcomposer::ToJson(cluster))) !=
        xcomposer::ToJson(cluster)) {
      __builtin_trap();
    }
    xcomposer::ApplyMaxMemory(text, cluster);
  });
  return 0;
}
