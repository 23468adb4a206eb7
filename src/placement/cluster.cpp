#include "placement/cluster.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <set>
#include <utility>

#include "base/check.h"

namespace xcomposer {
namespace {

struct KnownDevice {
  const char* word;  // both must be words of the model's name; the second may be empty
  const char* more;
  double bandwidth;
  double flops;  // fp16 with float32 accumulation
};

// Data sheets; the more special name first.
constexpr std::array<KnownDevice, 12> kKnown = {{{"GH200", "", 4.0e12, 989e12},
                                                 {"H200", "", 4.8e12, 989e12},
                                                 {"H100", "PCIe", 2.0e12, 756e12},
                                                 {"H100", "", 3.35e12, 989e12},
                                                 {"A100", "80GB", 2.039e12, 312e12},
                                                 {"A100", "", 1.555e12, 312e12},
                                                 {"4090", "", 1.008e12, 165e12},
                                                 {"3090", "", 0.936e12, 71e12},
                                                 {"L40S", "", 0.864e12, 362e12},
                                                 {"A10", "", 0.6e12, 125e12},
                                                 {"V100", "", 0.9e12, 125e12},
                                                 {"T4", "", 0.32e12, 65e12}}};

/// Words that make another device of one that is known.
constexpr std::array<const char*, 6> kOthers = {"Laptop", "Mobile", "Max", "Ti", "SUPER", "MIG"};

/// "NVIDIA A100-SXM4-80GB" has the words NVIDIA, A100, SXM4 and 80GB.
std::set<std::string> WordsOf(const std::string& model) {
  std::set<std::string> words;
  std::string word;
  for (const char c : model + " ") {
    if (std::isalnum(static_cast<unsigned char>(c))) {
      word += c;
    } else {
      words.insert(std::exchange(word, ""));
    }
  }
  return words;
}

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
  const std::set<std::string> words = WordsOf(model);
  const auto has = [&](const char* word) { return *word == 0 || words.count(word) != 0; };
  if (std::none_of(kOthers.begin(), kOthers.end(), has)) {
    for (const KnownDevice& known : kKnown) {
      if (has(known.word) && has(known.more)) return {known.bandwidth, known.flops, true};
    }
  }
  if (kind == "cpu") return {30e9, 300e9, false};  // two cores of a server, measured
  return {1e12, 100e12, false};
}

void NoteAssumedSpeed(const std::string& what, const ClusterDevice& device, Cluster& cluster) {
  cluster.notes.push_back(StrCat(what, ": speed assumed, ", device.bandwidth / 1e9, " GB/s and ",
                                 device.flops / 1e12, " TFLOP/s"));
}

}  // namespace xcomposer
