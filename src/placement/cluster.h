#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace xcomposer {

/// A way from one device to another.
struct Link {
  double bandwidth = 0;  ///< bytes per second
  double latency = 0;    ///< seconds

  double Seconds(double bytes) const { return latency + bytes / bandwidth; }
  friend bool operator==(const Link&, const Link&) = default;
};

struct ClusterNode {
  std::string name;
  Link link;  ///< between its devices
};

struct ClusterDevice {
  size_t node = 0;   ///< index
  std::string name;  ///< "cuda:0"
  std::string kind;  ///< "cpu", "cuda"
  std::string model;
  int64_t memory = 0;    ///< bytes
  int64_t budget = 0;    ///< of them, what may be used
  double bandwidth = 0;  ///< of its memory, bytes per second
  double flops = 0;      ///< in the arithmetic of the engine on it, per second
};

/// Machines, their devices and the ways between them.
struct Cluster {
  std::vector<ClusterNode> nodes;
  std::vector<ClusterDevice> devices;
  std::map<std::pair<size_t, size_t>, Link> links;  ///< between nodes, smaller index first
  Link default_link;                                ///< between nodes without one of their own
  std::vector<std::string> notes;                   ///< what was assumed or ignored

  /// "node/name".
  std::string IdOf(size_t device) const;
  Link LinkBetween(size_t a, size_t b) const;
};

/// What is assumed of links and devices that are described without it.
inline constexpr Link kAssumedNodeLink = {25e9, 10e-6};       // PCIe 4.0 x16, staged
inline constexpr Link kAssumedNetworkLink = {1.25e9, 80e-6};  // 10 Gb/s Ethernet

/// Memory bandwidth and arithmetic of known devices by their model's name, else of their kind.
struct DeviceSpeed {
  double bandwidth = 0;
  double flops = 0;
  bool known = false;  ///< by name
};
DeviceSpeed SpeedOf(const std::string& kind, const std::string& model);

/// Notes that the speed of this device is assumed.
void NoteAssumedSpeed(const std::string& what, const ClusterDevice& device, Cluster& cluster);

}  // namespace xcomposer
