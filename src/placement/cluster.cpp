#include "placement/cluster.h"

#include <algorithm>
#include <array>

#include "base/check.h"

namespace xcomposer {
namespace {

struct KnownDevice {
  const char* words;  // all must occur in the model's name
  const char* more;
  double bandwidth;
  double flops;  // fp16 with float32 accumulation
};

// Data sheets; the more special name first.
constexpr std::array<KnownDevice, 12> kKnown = {{{"GH200", "", 4.0e12, 989e12},
                                                 {"H200", "", 4.8e12, 989e12},
                                                 {"H100", "PCIe", 2.0e12, 756e12},
                                                 {"H100", "", 3.35e12, 989e12},
                                                 {"A100", "80", 2.039e12, 312e12},
                                                 {"A100", "", 1.555e12, 312e12},
                                                 {"4090", "", 1.008e12, 165e12},
                                                 {"3090", "", 0.936e12, 71e12},
                                                 {"L40S", "", 0.864e12, 362e12},
                                                 {"A10", "", 0.6e12, 125e12},
                                                 {"V100", "", 0.9e12, 125e12},
                                                 {"T4", "", 0.32e12, 65e12}}};

}  // namespace

std::string Cluster::IdOf(size_t device) const {
  return nodes[devices[device].node].name + "/" + devices[device].name;
}

Link Cluster::LinkBetween(size_t a, size_t b) const {
  const size_t from = devices[a].node;
  const size_t to = devices[b].node;
  if (from == to) return nodes[from].link;
  const auto it = links.find(std::minmax(from, to));
  return it == links.end() ? default_link : it->second;
}

DeviceSpeed SpeedOf(const std::string& kind, const std::string& model) {
  for (const KnownDevice& known : kKnown) {
    if (model.find(known.words) != std::string::npos &&
        model.find(known.more) != std::string::npos) {
      return {known.bandwidth, known.flops, true};
    }
  }
  if (kind == "cpu") return {30e9, 300e9, false};  // two cores of a server, measured
  return {1e12, 100e12, false};
}

}  // namespace xcomposer
