#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "xcomposer/export.h"

namespace xcomposer {

struct DeviceInfo {
  std::string name;  ///< "cpu", "cuda:0"
  std::string kind;  ///< "cpu" or "cuda"
  std::string model;
  int64_t memory = 0;  ///< bytes
  int64_t free = 0;
  double bandwidth = 0;  ///< of the memory, bytes per second: by the model's name, else assumed
  double flops = 0;      ///< operations per second, likewise
  bool speed_assumed = false;  ///< the model's name told neither
  int threads = 0;             ///< cpu: that this process may use
  std::string instructions;    ///< cpu: the kernels in use; cuda: compute capability
};

struct MachineInfo {
  std::string host;
  std::vector<DeviceInfo> devices;
  double link_bandwidth = 0;  ///< between its devices, assumed: bytes per second
  double link_latency = 0;    ///< seconds
  std::string cuda_driver;    ///< empty without one
  std::string cuda_runtime;   ///< empty in a build without CUDA
  std::string cuda_problem;   ///< why there are no CUDA devices, or fewer than expected; else empty
  std::string torch_version;
  std::string build;  ///< what this build has: opencv, sentencepiece, cuda
};

/// What this machine has that the library could use. The environment's XCOMPOSER_MAX_ISA limits the
/// processor's instructions (docs/benchmarking.md); throws kUsage where it names none.
XCOMPOSER_API MachineInfo Machine();

}  // namespace xcomposer
