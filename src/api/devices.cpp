#include "xcomposer/devices.h"

#include <torch/version.h>
#include <unistd.h>

#include <array>
#include <fstream>
#include <string>

#include "api/free_memory.h"
#include "api/load_options.h"
#include "base/check.h"
#include "input/image_decoder.h"
#include "input/piece_encoder.h"
#include "kernels/cpu/core_count.h"
#include "kernels/cpu/cpu_info.h"
#include "kernels/cuda/device_info.h"
#include "placement/cluster.h"

namespace xcomposer {
namespace {

std::string HostName() {
  std::array<char, 256> name{};
  if (gethostname(name.data(), name.size() - 1) != 0) return "localhost";
  return name.data();
}

// The first "model name" of /proc/cpuinfo; other architectures may have none.
std::string ProcessorName() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    const auto colon = line.find(": ");
    if (line.rfind("model name", 0) == 0 && colon != std::string::npos)
      return line.substr(colon + 2);
  }
  return "unknown processor";
}

DeviceInfo Processor() {
  DeviceInfo cpu;
  cpu.name = "cpu";
  cpu.kind = "cpu";
  cpu.model = ProcessorName();
  cpu.threads = cpu::UsableCores();
  cpu.instructions = cpu::ToString(cpu::BestIsa());
  const api::Memory memory = api::HostMemory();
  cpu.memory = memory.total;
  cpu.free = memory.available;
  return cpu;
}

// CUDA counts 1000 * major + 10 * minor.
std::string CudaVersion(int version) {
  if (version == 0) return "";
  return StrCat(version / 1000, ".", version % 1000 / 10);
}

std::string BuildFeatures(const cuda::RuntimeInfo& cuda) {
  std::string features;
  const auto add = [&](const char* name) { features += StrCat(features.empty() ? "" : " ", name); };
  if (HasImageDecoders()) add("opencv");
  if (HasSentencePiece()) add("sentencepiece");
  if (cuda.built_with_cuda) add("cuda");
  return features;
}

}  // namespace

MachineInfo Machine() {
  api::CheckInstructionSet();
  MachineInfo machine;
  machine.host = HostName();
  machine.devices.push_back(Processor());
  const cuda::RuntimeInfo cuda = cuda::QueryRuntime();
  for (const cuda::DeviceInfo& gpu : cuda.devices) {
    machine.devices.push_back(
        {.name = StrCat("cuda:", gpu.ordinal),
         .kind = "cuda",
         .model = gpu.name,
         .memory = gpu.total_bytes,
         .free = gpu.free_bytes,
         .threads = 0,
         .instructions = StrCat("sm_", gpu.compute_major, gpu.compute_minor)});
  }
  for (DeviceInfo& device : machine.devices) {
    const DeviceSpeed speed = SpeedOf(device.kind, device.model);
    device.bandwidth = speed.bandwidth;
    device.flops = speed.flops;
    device.speed_assumed = !speed.known;
  }
  machine.link_bandwidth = kAssumedNodeLink.bandwidth;
  machine.link_latency = kAssumedNodeLink.latency;
  machine.cuda_driver = CudaVersion(cuda.driver_version);
  machine.cuda_runtime = CudaVersion(cuda.runtime_version);
  machine.cuda_problem = cuda.problem;
  machine.torch_version = TORCH_VERSION;
  machine.build = BuildFeatures(cuda);
  return machine;
}

}  // namespace xcomposer
