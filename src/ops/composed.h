#pragma once

#include <ATen/core/Tensor.h>

#include "ops/linear_weight.h"

/// Ops that are made of others, for back ends and batches that have no kernel of their own for
/// them. Arguments as in schema.cpp.
namespace xcomposer::ops {

at::Tensor ComposedNormQkvRope(const at::Tensor& hidden, const at::Tensor& norm, double eps,
                               const at::Tensor& wqkv, const at::Tensor& cos, const at::Tensor& sin,
                               at::Tensor& k_cache, at::Tensor& v_cache, const at::Tensor& slots);
at::Tensor ComposedNormGateUp(const at::Tensor& hidden, const at::Tensor& norm, double eps,
                              const LinearWeight& w1, const LinearWeight& w3);

}  // namespace xcomposer::ops
