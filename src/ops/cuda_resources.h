#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "kernels/cuda/context.h"
#include "kernels/cuda/linear.h"

namespace xcomposer::ops {

/// What the CUDA ops of one stream keep from call to call. For one thread at a time.
class CudaResources {
 public:
  /// `device` is the stream's. Allocates there; throws kDevice where cuBLASLt cannot be set up.
  CudaResources(const cuda::Context& context, at::Device device);

  const cuda::Context& context() const { return context_; }
  cuda::LinearPlans& plans() { return plans_; }

  /// At least `count` zeros, which kernels leave as zeros. The same memory every time, so that a
  /// captured graph may hold it. Throws kCapacity beyond what was set aside.
  int32_t* Counters(int64_t count);

 private:
  cuda::Context context_;
  at::Tensor workspace_;  // of cuBLASLt
  at::Tensor counters_;   // int32
  cuda::LinearPlans plans_;
};

/// Installs resources for the CUDA ops that the calling thread runs while this lives. The thread's
/// current device and stream must be theirs.
class CudaScope {
 public:
  explicit CudaScope(CudaResources& resources);
  ~CudaScope();
  CudaScope(const CudaScope&) = delete;
  CudaScope& operator=(const CudaScope&) = delete;

 private:
  CudaResources* previous_;
};

/// Those that were installed. Throws kInternal where none were.
CudaResources& CurrentCuda();

}  // namespace xcomposer::ops
