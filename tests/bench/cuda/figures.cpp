#include "bench/cuda/figures.h"

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "bench/cuda/gpu_timer.h"

namespace xcomposer::cuda {
namespace {

using nlohmann::json;

void Line(const json& line) { std::cout << line.dump() << std::endl; }

bool StartsWith(const std::string& text, const std::string& start) {
  return text.compare(0, start.size(), start) == 0;
}

}  // namespace

bool Figures::Wants(const std::string& name) const {
  return wanted_.empty() || std::any_of(wanted_.begin(), wanted_.end(), [&](const auto& wanted) {
           return StartsWith(name, wanted);
         });
}

bool Figures::WantsAny(const std::string& group) const {
  return Wants(group) || std::any_of(wanted_.begin(), wanted_.end(),
                                     [&](const auto& wanted) { return StartsWith(wanted, group); });
}

void Figures::Give(const std::string& name, const Timing& timing, const Work& work,
                   const std::string& note) {
  json line = {{"figure", name},
               {"seconds", timing.median},
               {"least", timing.least},
               {"most", timing.most},
               {"runs", timing.runs}};
  if (work.bytes > 0) line["bytes"] = work.bytes;
  if (work.flops > 0) line["flops"] = work.flops;
  if (!note.empty()) line["note"] = note;
  Line(line);
}

void Figures::Skip(const std::string& name, const std::string& reason) {
  Line({{"skipped", name}, {"reason", reason}});
}

void Figures::Group(const std::string& name, const std::function<void()>& measure) {
  if (!WantsAny(name)) return;
  try {
    measure();
  } catch (const std::exception& error) {
    ++failures_;
    Line({{"failed", name}, {"reason", error.what()}});
    static_cast<void>(cudaGetLastError());
    // An access outside of memory ends the whole context: whatever follows would fail alike.
    if (const cudaError_t status = cudaDeviceSynchronize(); status != cudaSuccess) {
      throw std::runtime_error(std::string("the device is lost: ") + cudaGetErrorString(status));
    }
  }
}

bool DescribeDevice() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess || count == 0) {
    const std::string reason =
        status != cudaSuccess ? cudaGetErrorString(status) : "the driver sees no device";
    Line({{"no_device", reason}});
    std::cerr << "no NVIDIA GPU: " << reason << "\n";
    return false;
  }
  cudaDeviceProp device{};
  Check(cudaGetDeviceProperties(&device, 0), "cudaGetDeviceProperties");
  size_t free = 0;
  size_t total = 0;
  int runtime = 0;
  int driver = 0;
  Check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  Check(cudaRuntimeGetVersion(&runtime), "cudaRuntimeGetVersion");
  Check(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
  Line({{"device", device.name},
        {"compute_capability", std::to_string(device.major) + "." + std::to_string(device.minor)},
        {"multiprocessors", device.multiProcessorCount},
        {"l2_bytes", device.l2CacheSize},
        {"memory_bytes", total},
        {"free_bytes", free},
        {"runtime", runtime},
        {"driver", driver}});
  return true;
}

bool ReadOptions(int argc, char** argv, std::vector<std::string>& only, std::string& scratch) {
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    if (option == "--only" && i + 1 < argc) {
      only.push_back(argv[++i]);
    } else if (option == "--scratch" && i + 1 < argc) {
      scratch = argv[++i];
    } else {
      std::cerr << "usage: " << argv[0] << " [--only BEGINNING_OF_A_NAME]... [--scratch FOLDER]\n";
      return false;
    }
  }
  return true;
}

}  // namespace xcomposer::cuda
