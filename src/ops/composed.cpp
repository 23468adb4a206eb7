#include "ops/composed.h"

#include <torch/library.h>

#include "ops/arguments.h"
#include "ops/ops.h"

namespace xcomposer::ops {

using at::Tensor;

namespace {

Tensor ComposedLinearFloat(const Tensor& x, const Tensor& weight) { return Linear(x, weight); }

void ComposedLinearAdd(Tensor& y, const Tensor& x, const Tensor& weight) {
  Add_(y, Linear(x, weight));
}

void ComposedLayerNorm(Tensor& x, const Tensor& weight, const Tensor& bias, double eps) {
  x.copy_(LayerNorm(x, weight, bias, eps));
}

void ComposedNormScores(Tensor& scores, const Tensor& hidden, const Tensor& norm, double eps,
                        const Tensor& output) {
  CheckNormScores(scores, hidden, output);
  scores.copy_(LinearFloat(RmsNorm(hidden, norm, eps), output));
}

}  // namespace

Tensor ComposedNormQkvRope(const Tensor& hidden, const Tensor& norm, double eps, const Tensor& wqkv,
                           const Tensor& cos, const Tensor& sin, Tensor& k_cache, Tensor& v_cache,
                           const Tensor& slots) {
  const Tensor qkv = Linear(RmsNorm(hidden, norm, eps), wqkv);
  return RopeKv(qkv, cos, sin, k_cache, v_cache, slots);
}

Tensor ComposedNormGateUp(const Tensor& hidden, const Tensor& norm, double eps, const Tensor& w1,
                          const Tensor& w3) {
  const Tensor x = RmsNorm(hidden, norm, eps);
  Tensor gate = Linear(x, w1);
  SiluMul_(gate, Linear(x, w3));
  return gate;
}

TORCH_LIBRARY_IMPL(xcomposer, CompositeExplicitAutograd, m) {
  m.impl("linear_float", &ComposedLinearFloat);
  m.impl("linear_add_", &ComposedLinearAdd);
  m.impl("layer_norm_", &ComposedLayerNorm);
  m.impl("norm_qkv_rope", &ComposedNormQkvRope);
  m.impl("norm_gate_up", &ComposedNormGateUp);
  m.impl("norm_scores_", &ComposedNormScores);
}

}  // namespace xcomposer::ops
