#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/cuda/context.h"
#include "kernels/cuda/device.cuh"

namespace xcomposer::cuda {

struct LaunchShape {
  int64_t grid_x = 1;
  int64_t grid_y = 1;
  int64_t grid_z = 1;
  int threads = 256;
  int64_t shared_bytes = 0;
};

inline int64_t CeilDivide(int64_t a, int64_t b) { return (a + b - 1) / b; }

/// Bytes that SharedArena::Take uses up.
template <typename V>
constexpr int64_t ArenaBytes(int64_t count) {
  return (count * static_cast<int64_t>(sizeof(V)) + 15) / 16 * 16;
}

template <typename... Pointers>
bool Aligned16(const Pointers*... pointers) {
  return (... && (reinterpret_cast<uintptr_t>(pointers) % 16 == 0));
}

/// An empty grid is no error and launches nothing. On a GPU the shape is checked by the runtime.
template <typename Params>
cudaError_t Launch(void (*kernel)(Params), const LaunchShape& shape, const Params& params,
                   const Context& context) {
  if (shape.grid_x == 0 || shape.grid_y == 0 || shape.grid_z == 0) return cudaSuccess;
  if (shape.grid_x > INT32_MAX || shape.grid_y > 65535 || shape.grid_z > 65535) {
    return cudaErrorInvalidConfiguration;
  }
#ifdef XCOMPOSER_EMULATED_CUDA
  emulator::LaunchConfig config;
  config.grid = {static_cast<unsigned>(shape.grid_x), static_cast<unsigned>(shape.grid_y),
                 static_cast<unsigned>(shape.grid_z)};
  config.threads = shape.threads;
  config.shared_bytes = static_cast<size_t>(shape.shared_bytes);
  config.dependent = context.programmatic_launch;
  return emulator::LaunchOnMachine(config, [kernel, &params] { kernel(params); });
#else
  // The caller is told; left as the thread's last error, it would be blamed on later work.
  const auto told = [](cudaError_t status) {
    if (status != cudaSuccess) static_cast<void>(cudaGetLastError());
    return status;
  };
  constexpr int64_t kAlwaysAllowed = 48 * 1024;
  if (shape.shared_bytes > kAlwaysAllowed) {
    if (shape.shared_bytes > context.block_shared_bytes) return cudaErrorInvalidValue;
    // All that a block may have, and not what this launch needs: the limit is the kernel's, and
    // another thread's launch may be between its own two calls. Code for compute capability 9.0
    // has a KiB of its own, which may count as the kernel's.
    constexpr int kOwn = 1024;
    const int most =
        std::max(static_cast<int>(shape.shared_bytes), context.block_shared_bytes - kOwn);
    const cudaError_t status = told(cudaFuncSetAttribute(
        reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize, most));
    if (status != cudaSuccess) return status;
  }
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(shape.grid_x), static_cast<unsigned>(shape.grid_y),
                        static_cast<unsigned>(shape.grid_z));
  config.blockDim = dim3(static_cast<unsigned>(shape.threads));
  config.dynamicSmemBytes = static_cast<size_t>(shape.shared_bytes);
  config.stream = context.stream;
  config.attrs = &attribute;
  config.numAttrs = context.programmatic_launch ? 1 : 0;
  return told(cudaLaunchKernelEx(&config, kernel, params));
#endif
}

/// Calls choose(Half{}) or choose(BFloat16{}).
template <typename Choose>
cudaError_t ForFormat(Format format, const Choose& choose) {
  switch (format) {
    case Format::kFloat16:
      return choose(Half{});
    case Format::kBfloat16:
      return choose(BFloat16{});
  }
  return cudaErrorInvalidValue;
}

}  // namespace xcomposer::cuda
