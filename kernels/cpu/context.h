#pragma once

#include "kernels/cpu/activations.h"
#include "kernels/cpu/cpu_info.h"
#include "kernels/cpu/thread_pool.h"

namespace xcomposer::cpu {

/// On which threads and with which instructions a kernel runs. The processor must have the
/// instructions.
struct Context {
  ThreadPool& pool;
  Isa isa = BestIsa();
  Activations activations = Activations::kFloat32;
};

}  // namespace xcomposer::cpu
