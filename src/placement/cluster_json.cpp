#include "placement/cluster_json.h"

#include <algorithm>
#include <cctype>
#include <set>

#include "base/check.h"
#include "nlohmann/json.hpp"
#include "placement/quantity.h"
#include "placement/unique_keys.h"

namespace xcomposer {
namespace {

using Json = nlohmann::json;

constexpr size_t kMostNodes = 4096;
constexpr size_t kMostDevices = 16384;

const Json& Member(const Json& object, const char* key, const std::string& what) {
  Require(object.is_object(), ErrorKind::kPlan, what, " is ", object.dump(),
          ", expected an object");
  const auto it = object.find(key);
  Require(it != object.end(), ErrorKind::kPlan, what, " has no '", key, "'");
  return *it;
}

std::string Text(const Json& value, const std::string& what) {
  Require(value.is_string(), ErrorKind::kPlan, what, " is ", value.dump(), ", expected a name");
  return value.get<std::string>();
}

Json List(const Json& value, const std::string& what) {
  Require(value.is_array(), ErrorKind::kPlan, what, " is ", value.dump(), ", expected a list");
  return value;
}

bool Flag(const Json& object, const char* key, const std::string& what) {
  if (!object.contains(key)) return false;
  Require(object[key].is_boolean(), ErrorKind::kPlan, what, ".", key, " is ", object[key].dump(),
          ", expected true or false");
  return object[key].get<bool>();
}

double Speed(const Json& value, Measure measure, const std::string& what) {
  const double number = ParseQuantity(value, measure, what);
  Require(number >= 1, ErrorKind::kPlan, what, " is ", value.dump(), ", expected at least 1");
  return number;
}

void NoteUnknown(const Json& object, const std::set<std::string>& known, const std::string& what,
                 Cluster& cluster) {
  for (const auto& [key, value] : object.items()) {
    if (known.count(key) == 0) cluster.notes.push_back(StrCat(what, ": '", key, "' is ignored"));
  }
}

Link ReadLink(const Json& json, Link assumed, const std::string& what, Cluster& cluster) {
  Require(json.is_object(), ErrorKind::kPlan, what, " is ", json.dump(),
          R"(, expected {"bandwidth": ..., "latency": ...})");
  NoteUnknown(json, {"bandwidth", "latency", "between"}, what, cluster);
  Link link = assumed;
  if (json.contains("bandwidth")) {
    link.bandwidth = Speed(json["bandwidth"], Measure::kBandwidth, what + ".bandwidth");
  }
  if (json.contains("latency")) {
    link.latency = ParseQuantity(json["latency"], Measure::kSeconds, what + ".latency");
  }
  return link;
}

bool IsPlainName(const std::string& name) {
  const auto plain = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == ':' || c == '.' || c == '-' ||
           c == '_';
  };
  return !name.empty() && name.size() <= 64 && std::all_of(name.begin(), name.end(), plain);
}

/// "cpu" or "cuda": as said, else by the name.
std::string KindOfDevice(const Json& json, const std::string& name, const std::string& what) {
  Require(IsPlainName(name), ErrorKind::kPlan, what, ": '", name,
          "' is no name of a device; expected letters, digits and :.-_");
  const std::string kind =
      json.contains("kind") ? Text(json["kind"], what + ".kind") : name.substr(0, name.find(':'));
  Require(kind == "cpu" || kind == "cuda", ErrorKind::kPlan, what, " is of kind '", kind,
          "', expected cpu or cuda");
  return kind;
}

ClusterDevice ReadDevice(const Json& json, size_t node, const std::string& where,
                         Cluster& cluster) {
  ClusterDevice device;
  device.node = node;
  device.name = Text(Member(json, "name", where + ": a device"), where + ": a device's name");
  const std::string what = where + "/" + device.name;
  NoteUnknown(json,
              {"name", "kind", "model", "memory", "free", "bandwidth", "flops", "speed_assumed",
               "threads", "instructions"},
              what, cluster);
  device.kind = KindOfDevice(json, device.name, what);
  if (json.contains("model")) device.model = Text(json["model"], what + ".model");
  device.memory = ParseBytes(Member(json, "memory", what), what + ".memory");
  device.budget = json.contains("free") ? ParseBytes(json["free"], what + ".free") : device.memory;
  Require(device.budget <= device.memory, ErrorKind::kPlan, what, " has ", device.budget,
          " bytes free of ", device.memory);
  const DeviceSpeed speed = SpeedOf(device.kind, device.model);
  device.bandwidth = speed.bandwidth;
  device.flops = speed.flops;
  const bool has_bandwidth = json.contains("bandwidth");
  const bool has_flops = json.contains("flops");
  if (has_bandwidth) {
    device.bandwidth = Speed(json["bandwidth"], Measure::kBandwidth, what + ".bandwidth");
  }
  if (has_flops) device.flops = Speed(json["flops"], Measure::kFlops, what + ".flops");
  const bool left_out = !(has_bandwidth && has_flops) && !speed.known;
  if (left_out || Flag(json, "speed_assumed", what)) NoteAssumedSpeed(what, device, cluster);
  return device;
}

size_t NodeNamed(const Cluster& cluster, const std::string& name, const std::string& what) {
  for (size_t i = 0; i < cluster.nodes.size(); ++i) {
    if (cluster.nodes[i].name == name) return i;
  }
  throw Error(ErrorKind::kPlan, StrCat(what, " names the node '", name, "', which is not there"));
}

void ReadNode(const Json& json, Cluster& cluster) {
  const size_t index = cluster.nodes.size();
  const std::string name = Text(Member(json, "name", "a node"), "a node's name");
  const std::string what = "node " + name;
  Require(!name.empty() && name.find_first_of("/:") == std::string::npos, ErrorKind::kPlan,
          "a node is called '", name, "'; expected a name without '/' and ':'");
  for (const ClusterNode& node : cluster.nodes) {
    Require(node.name != name, ErrorKind::kPlan, "two nodes are called ", name);
  }
  NoteUnknown(json, {"name", "devices", "link"}, what, cluster);
  ClusterNode node{name, kAssumedNodeLink};
  if (json.contains("link")) {
    node.link = ReadLink(json["link"], kAssumedNodeLink, what + ".link", cluster);
  }
  cluster.nodes.push_back(node);
  std::set<std::string> names;
  for (const Json& device : List(Member(json, "devices", what), what + ".devices")) {
    cluster.devices.push_back(ReadDevice(device, index, what, cluster));
    Require(names.insert(cluster.devices.back().name).second, ErrorKind::kPlan, what,
            " has two devices called ", cluster.devices.back().name);
  }
}

void ReadLinks(const Json& json, Cluster& cluster) {
  for (const Json& link : List(json, "links")) {
    const Json& ends = Member(link, "between", "a link");
    Require(ends.is_array() && ends.size() == 2, ErrorKind::kPlan, "a link is between ",
            ends.dump(), ", expected two nodes");
    const size_t a = NodeNamed(cluster, Text(ends[0], "an end of a link"), "a link");
    const size_t b = NodeNamed(cluster, Text(ends[1], "an end of a link"), "a link");
    Require(a != b, ErrorKind::kPlan, "a link goes from ", ends[0].dump(),
            " to itself; the link inside of a node belongs to the node");
    const Link read = ReadLink(link, kAssumedNetworkLink, "link " + ends.dump(), cluster);
    Require(cluster.links.emplace(std::minmax(a, b), read).second, ErrorKind::kPlan,
            "two links are between ", ends.dump());
  }
}

Json ToJson(const Link& link) { return {{"bandwidth", link.bandwidth}, {"latency", link.latency}}; }

/// "0" and "cuda:0" mean the device of every node that is called so; "a/cuda:0" and "a:cuda:0" one.
bool Names(const std::string& key, const Cluster& cluster, size_t device) {
  const bool digits = !key.empty() && key.find_first_not_of("0123456789") == std::string::npos;
  const std::string name = digits ? "cuda:" + key : key;
  std::string with_colon = cluster.IdOf(device);
  with_colon[with_colon.find('/')] = ':';
  return name == cluster.devices[device].name || name == cluster.IdOf(device) || name == with_colon;
}

}  // namespace

Cluster ParseCluster(const std::string& text) {
  const Json json = ParseUniqueKeys(text, "the cluster description");
  Cluster cluster;
  NoteUnknown(json, {"nodes", "links", "default_link", "versions", "about"},
              "the cluster description", cluster);
  const Json nodes = List(Member(json, "nodes", "the cluster description"), "nodes");
  Require(nodes.size() <= kMostNodes, ErrorKind::kPlan, "the cluster has ", nodes.size(),
          " nodes, the limit is ", kMostNodes);
  for (const Json& node : nodes) {
    ReadNode(node, cluster);
    Require(cluster.devices.size() <= kMostDevices, ErrorKind::kPlan, "the cluster has more than ",
            kMostDevices, " devices");
  }
  Require(!cluster.devices.empty(), ErrorKind::kPlan, "the cluster description has no device");
  cluster.default_link = kAssumedNetworkLink;
  if (json.contains("default_link")) {
    cluster.default_link =
        ReadLink(json["default_link"], kAssumedNetworkLink, "default_link", cluster);
  }
  if (json.contains("links")) ReadLinks(json["links"], cluster);
  return cluster;
}

std::string ToJson(const Cluster& cluster) {
  Json nodes = Json::array();
  for (size_t i = 0; i < cluster.nodes.size(); ++i) {
    Json devices = Json::array();
    for (const ClusterDevice& device : cluster.devices) {
      if (device.node != i) continue;
      devices.push_back({{"name", device.name},
                         {"kind", device.kind},
                         {"model", device.model},
                         {"memory", device.memory},
                         {"free", device.budget},
                         {"bandwidth", device.bandwidth},
                         {"flops", device.flops}});
    }
    nodes.push_back({{"name", cluster.nodes[i].name},
                     {"devices", devices},
                     {"link", ToJson(cluster.nodes[i].link)}});
  }
  Json links = Json::array();
  for (const auto& [ends, link] : cluster.links) {
    Json entry = ToJson(link);
    entry["between"] = {cluster.nodes[ends.first].name, cluster.nodes[ends.second].name};
    links.push_back(entry);
  }
  const Json json = {
      {"nodes", nodes}, {"links", links}, {"default_link", ToJson(cluster.default_link)}};
  return json.dump(2);
}

void ApplyMaxMemory(const std::string& text, Cluster& cluster) {
  const Json json = ParseUniqueKeys(text, "max_memory");
  for (const auto& [key, value] : json.items()) {
    const int64_t bytes = ParseBytes(value, StrCat("max_memory of ", key));
    // Accelerate's words for what is left over, which are there whether or not anything is.
    bool found = key == "disk" || key == "cpu";
    for (size_t i = 0; i < cluster.devices.size(); ++i) {
      if (!Names(key, cluster, i)) continue;
      found = true;
      cluster.devices[i].budget = std::min(cluster.devices[i].budget, bytes);
    }
    Require(found, ErrorKind::kPlan, "max_memory names ", key, ", which is no device here");
  }
}

}  // namespace xcomposer
