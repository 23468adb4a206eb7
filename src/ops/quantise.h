#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

#include "ops/linear_weight.h"

namespace xcomposer::ops {

/// A weight that was quantised here, and the share of it that was lost.
struct QuantisedWeight {
  LinearWeight weight;       ///< kInt4 or kInt8
  double squared_error = 0;  ///< sum of (w - quantised w)^2
  double squares = 0;        ///< sum of w^2
};

/// Rounds a dense weight (N, K) to `bits` (4 or 8) in groups of `group` inputs;
/// docs/quantisation.md says how. On the CPU, with the caller's threads. Throws kCheckpoint, naming
/// `name`, for weights that are not finite or whose outputs are no multiple of 16 or inputs of 8;
/// kInternal for other bits and for groups that a block of activations does not divide.
QuantisedWeight Quantise(const at::Tensor& weight, int bits, int64_t group,
                         const std::string& name);

}  // namespace xcomposer::ops
