#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "kernels/cuda/context.h"

// What the kernel tests ask of the device: the emulator (device_emulated.cpp) or a GPU
// (device_gpu.cpp). The tests are the same for both.
namespace xcomposer::cuda {

/// Empty if kernels can run; otherwise why not.
std::string WhyNoDevice();

/// The ways to run a kernel that must all give the same bits: orders of threads and blocks under
/// the emulator, with and without programmatic launch.
std::vector<Context> Ways();

/// Prepares the device for the launches that follow, which use `ways[i]`.
void Choose(size_t way);

/// Waits for the launch and returns what went wrong, or "".
std::string Finish(cudaError_t launched);

enum class Role {
  kConstant,  ///< weights: no kernel writes them
  kVariable,
};

/// Memory of the device, filled with NaN. Its surroundings are guarded: the emulator refuses every
/// access outside; on a GPU CheckGuards() finds writes near it.
class DeviceBytes {
 public:
  DeviceBytes(size_t bytes, Role role);
  ~DeviceBytes();
  DeviceBytes(const DeviceBytes&) = delete;
  DeviceBytes& operator=(const DeviceBytes&) = delete;

  void* data() const { return data_; }
  size_t size() const { return bytes_; }
  void Write(const void* host, size_t bytes);
  void Read(void* host, size_t bytes) const;

  /// "" or what was found.
  std::string CheckGuards() const;

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace xcomposer::cuda
