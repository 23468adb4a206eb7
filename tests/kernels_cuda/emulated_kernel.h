#pragma once

#include <cstdint>
#include <string>

#include "kernels/cuda/launch.cuh"
#include "support/emulator/device.h"
#include "support/emulator/runtime.h"

namespace xcomposer::cuda {

// Small kernels under the emulator, and what it says of them.

constexpr emulator::Schedule kForward{emulator::Schedule::Order::kForward, 0};

struct Params {
  const float* in = nullptr;
  float* out = nullptr;
  int count = 0;
};

class Memory {
 public:
  Memory(int count, bool constant)
      : data_(static_cast<float*>(emulator::Machine::Instance().global().Allocate(
            static_cast<size_t>(count) * sizeof(float), constant))) {}
  ~Memory() { emulator::Machine::Instance().global().Free(data_); }
  float* data() { return data_; }

 private:
  float* data_;
};

inline std::string RunKernel(void (*kernel)(Params), int threads, Params params,
                             bool dependent = false, int64_t blocks = 1,
                             int64_t shared_bytes = 4096) {
  emulator::SetSchedule(kForward);
  const LaunchShape shape{.grid_x = blocks, .threads = threads, .shared_bytes = shared_bytes};
  static_cast<void>(Launch(kernel, shape, params, {.programmatic_launch = dependent}));
  return emulator::TakeFault();
}

inline std::string RunOnMemory(void (*kernel)(Params), int threads, bool dependent = false) {
  Memory in(threads, false);
  Memory out(threads, false);
  for (int i = 0; i < threads; ++i) in.data()[i] = static_cast<float>(i);
  return RunKernel(kernel, threads, {in.data(), out.data(), threads}, dependent);
}

}  // namespace xcomposer::cuda
