#pragma once

#include <string>
#include <vector>

#include "config/config_texts.h"
#include "config/model_config.h"
#include "placement/cluster.h"
#include "placement/workload.h"
#include "xcomposer/plan.h"

namespace xcomposer {

/// A shipped 7B checkpoint by its config.json.
inline ModelConfig Shipped(Kind kind) { return ParseConfig(ShippedConfig(kind).dump()); }

/// The 7B model with fewer layers.
inline ModelConfig SmallModel(int64_t layers) {
  ModelConfig config = Shipped(Kind::kVl7b);
  config.layers = layers;
  return config;
}

inline Workload TextWorkload(int64_t context, int64_t sequences) {
  Workload workload;
  workload.context = context;
  workload.sequences = sequences;
  workload.images = 0;
  workload.picture = {490, 490, 1, 1, 1225};
  return workload;
}

/// `count` devices of one machine.
inline Cluster Alike(int count, int64_t budget, double bandwidth = 1.555e12,
                     Link link = {25e9, 8e-6}) {
  Cluster cluster;
  cluster.nodes.push_back({"a", link});
  for (int i = 0; i < count; ++i) {
    cluster.devices.push_back({.node = 0,
                               .name = "cuda:" + std::to_string(i),
                               .kind = "cuda",
                               .model = "",
                               .memory = budget,
                               .budget = budget,
                               .bandwidth = bandwidth,
                               .flops = 312e12});
  }
  cluster.default_link = kAssumedNetworkLink;
  return cluster;
}

inline std::vector<int64_t> LayersPerStage(const Plan& plan) {
  std::vector<int64_t> layers;
  for (const PlannedDevice& device : plan.devices) {
    layers.push_back(device.last_layer - device.first_layer + 1);
  }
  return layers;
}

}  // namespace xcomposer
