#pragma once

#include <cstdint>

#include "bench/cuda/gpu_timer.h"

namespace xcomposer::cuda {

/// y (m, n) = x (m, k) w (n, k)^T, all float16 with float32 sums.
struct GemmShape {
  int64_t m = 0;
  int64_t n = 0;
  int64_t k = 0;
  int64_t weights = 1;  ///< that share x: as many results, in one call
  bool add = false;     ///< y is added to
  int64_t parts = 1;    ///< of K, each with a float32 result of its own, in one call

  double flops() const {
    return 2.0 * static_cast<double>(weights) * static_cast<double>(m) * static_cast<double>(n) *
           static_cast<double>(k);
  }
};

struct GemmMemory {
  const void* x = nullptr;
  const void* w = nullptr;
  void* y = nullptr;
  void* workspace = nullptr;
  size_t workspace_bytes = 0;
};

struct GemmTimes {
  Timing first;  ///< the algorithm that cuBLASLt's heuristic names first
  Timing best;   ///< the fastest of those that it names
  int tried = 0;
};

/// Throws where cuBLASLt names none.
GemmTimes SearchGemm(const GemmShape& shape, const GemmMemory& memory, GpuTimer& timer);

}  // namespace xcomposer::cuda
