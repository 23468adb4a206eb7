#include "api/machine_cluster.h"

#include <algorithm>
#include <set>

#include "base/check.h"
#include "kernels/cpu/core_count.h"
#include "kernels/cpu/isa_kernels.h"
#include "placement/device_map.h"
#include "xcomposer/devices.h"

namespace xcomposer::api {
namespace {

const DeviceInfo& Found(const MachineInfo& machine, const std::string& name) {
  CheckDeviceName(name);
  const bool is_cpu = name.rfind("cpu", 0) == 0;  // every number means the one host
  std::string there;
  for (const DeviceInfo& device : machine.devices) {
    if (device.name == name || (is_cpu && device.kind == "cpu")) return device;
    there += (there.empty() ? "" : ", ") + device.name;
  }
  std::string reason;
  if (name.rfind("cuda", 0) == 0 && !machine.cuda_problem.empty()) {
    reason = ": " + machine.cuda_problem;
  }
  throw Error(ErrorKind::kDevice, StrCat("this machine has no ", name, reason, "; it has ", there),
              {{"device", name}});
}

std::string Unused(const std::string& name, const std::set<std::string>& used) {
  if (used.count(name) == 0) return name;
  Require(name.rfind("cpu", 0) == 0, ErrorKind::kPlan, "the device ", name, " was named twice");
  int number = 1;
  while (used.count(StrCat("cpu:", number)) != 0) ++number;
  return StrCat("cpu:", number);
}

}  // namespace

Cluster MachineCluster(const std::vector<std::string>& names) {
  const MachineInfo machine = Machine();
  std::vector<std::string> wanted = names;
  if (wanted.empty()) {
    for (const DeviceInfo& device : machine.devices) wanted.push_back(device.name);
  }
  const auto shares = std::count_if(wanted.begin(), wanted.end(), [](const std::string& name) {
    return name.rfind("cpu", 0) == 0;
  });
  Cluster cluster;
  cluster.nodes.push_back({machine.host, kAssumedNodeLink});
  cluster.default_link = kAssumedNetworkLink;
  std::set<std::string> used;
  for (const std::string& name : wanted) {
    const DeviceInfo& found = Found(machine, name);
    ClusterDevice device;
    device.name = Unused(name, used);
    used.insert(device.name);
    device.kind = found.kind;
    device.model = found.model;
    device.memory = found.memory;
    device.budget = found.kind == "cpu" ? found.free / shares : found.free;
    device.bandwidth = found.bandwidth;
    device.flops = found.flops;
    if (found.speed_assumed) NoteAssumedSpeed(device.name, device, cluster);
    cluster.devices.push_back(std::move(device));
  }
  return cluster;
}

ComputeTraits HostTraits(int threads) {
  const cpu::IsaKernels& kernels = cpu::KernelsFor(cpu::BestIsa());
  constexpr auto kFloat = static_cast<int64_t>(sizeof(float));
  ComputeTraits traits = CpuTraits();
  traits.threads = threads > 0 ? threads : cpu::UsableCores();
  const cpu::PanelSizes panels = cpu::LargestPanels(cpu::BestIsa());
  traits.panel_rows = panels.rows;
  traits.panel_columns = panels.columns;
  traits.panel_number = panels.x_bytes;
  traits.streamed_rows = panels.few_rows;
  traits.panel_scratch = kFloat * panels.scratch;
  traits.attention_fixed = kFloat * kernels.attention_scratch(0);
  traits.attention_scratch = kFloat * kernels.attention_scratch(1) - traits.attention_fixed;
  return traits;
}

}  // namespace xcomposer::api
