#include "placement/device_orders.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <tuple>

namespace xcomposer {

std::vector<std::vector<size_t>> OrdersToTry(const Cluster& cluster,
                                             const std::vector<size_t>& devices, size_t most) {
  std::vector<double> node_speed(cluster.nodes.size());
  std::vector<double> node_budget(cluster.nodes.size());
  for (const size_t i : devices) {
    const ClusterDevice& device = cluster.devices[i];
    node_speed[device.node] = std::max(node_speed[device.node], device.bandwidth);
    node_budget[device.node] += static_cast<double>(device.budget);
  }
  const auto speed = [&](size_t i) { return cluster.devices[i].bandwidth; };
  const auto budget = [&](size_t i) { return static_cast<double>(cluster.devices[i].budget); };
  const auto sorted = [&](const auto& key) {
    std::vector<size_t> order = devices;
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return key(a) > key(b); });
    order.resize(std::min(order.size(), most));
    return order;
  };
  const auto node = [&](size_t i) { return -static_cast<double>(cluster.devices[i].node); };
  std::vector<std::vector<size_t>> orders = {
      sorted([&](size_t i) { return std::tuple(0.0, 0.0, node(i)); }),
      sorted([&](size_t i) { return std::tuple(speed(i), budget(i), node(i)); }),
      sorted([&](size_t i) { return std::tuple(budget(i), speed(i), node(i)); }),
      sorted([&](size_t i) {
        return std::tuple(node_speed[cluster.devices[i].node], node(i), speed(i));
      }),
      sorted([&](size_t i) {
        return std::tuple(node_budget[cluster.devices[i].node], node(i), budget(i));
      })};
  for (size_t i = 0, count = orders.size(); i < count; ++i) {
    orders.emplace_back(orders[i].rbegin(), orders[i].rend());
  }
  return orders;
}

std::vector<std::vector<size_t>> AlikeDevices(const Cluster& cluster,
                                              const std::vector<size_t>& devices) {
  using Key = std::tuple<size_t, std::string, int64_t, double, double>;
  std::map<Key, size_t> known;
  std::vector<std::vector<size_t>> groups;
  for (const size_t i : devices) {
    const ClusterDevice& device = cluster.devices[i];
    const auto [it, fresh] = known.try_emplace(
        Key{device.node, device.kind, device.budget, device.bandwidth, device.flops},
        groups.size());
    if (fresh) groups.emplace_back();
    groups[it->second].push_back(i);
  }
  return groups;
}

}  // namespace xcomposer
