#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

namespace xcomposer {

/// While this lives, the CPU's ops give what a computation would that stores activations, keys and
/// values as float16 and is exact otherwise: every result that CUDA stores is rounded once, sums
/// and the residual stream are float32. The yardstick for the error of the CUDA ops.
class RoundedOps {
 public:
  RoundedOps();

 private:
  c10::impl::IncludeDispatchKeyGuard guard_;
};

}  // namespace xcomposer
