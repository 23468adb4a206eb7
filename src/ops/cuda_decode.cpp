#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <cstddef>
#include <optional>

#include "base/check.h"
#include "kernels/cuda/decode_linear.h"
#include "kernels/cuda/linear_few_rows.h"
#include "kernels/cuda/sampling.h"
#include "ops/arguments.h"
#include "ops/composed.h"
#include "ops/cuda_arguments.h"
#include "ops/cuda_library.h"
#include "ops/cuda_linear.h"
#include "ops/cuda_resources.h"
#include "ops/ops.h"

// The composed ops that have kernels of their own: for one row, where norm and product are one, and
// for few rows, where products are one with the rotation or SwiGLU behind them. And what follows
// the head: the choice.
namespace xcomposer::ops {
namespace {

using at::Tensor;

cuda::NormedRow NormedRowOf(const Tensor& hidden, const Tensor& norm, double eps) {
  return {.hidden = hidden.const_data_ptr<float>(),
          .weight = norm.const_data_ptr(),
          .eps = static_cast<float>(eps)};
}

void CheckNormed(const char* op, const Tensor& hidden, const Tensor& norm, const Tensor& weight) {
  CheckNorm(op, hidden, norm, std::nullopt);
  CheckLinear(hidden, weight, std::nullopt);
  RequireType(op, at::kFloat, {&hidden});
  RequireType(op, weight.scalar_type(), {&norm});
}

/// Whether the kernels for one row take this product.
bool IsOneRow(const Tensor& hidden, const Tensor& weight) {
  return hidden.dim() == 2 && hidden.size(0) == 1 && weight.size(0) % 2 == 0 &&
         weight.size(1) % 8 == 0 && weight.size(1) <= cuda::kDecodeColumns;
}

/// Whether the kernels for few rows do.
bool IsFewRows(const Tensor& hidden, const Tensor& weight) {
  return hidden.dim() == 2 && hidden.size(0) >= 1 && hidden.size(0) <= cuda::kFewRows &&
         weight.size(1) % 32 == 0;
}

Tensor FusedQkvRope(const Tensor& hidden, const Tensor& norm, double eps, const Tensor& wqkv,
                    const Tensor& cos, const Tensor& sin, Tensor& k_cache, Tensor& v_cache,
                    const Tensor& slots) {
  const char* op = "norm_qkv_rope";
  const bool one = IsOneRow(hidden, wqkv);
  const bool few = IsFewRows(hidden, wqkv) && cos.dim() == 2 && cos.size(1) % 16 == 0;
  if (!one && !few) {
    return ComposedNormQkvRope(hidden, norm, eps, wqkv, cos, sin, k_cache, v_cache, slots);
  }
  CheckNormed(op, hidden, norm, wqkv);
  const int64_t rows = hidden.size(0);
  const Tensor qkv = at::empty({rows, wqkv.size(0)}, at::kMeta);  // the product that is not stored
  const HeadShape shape = CheckRopeKv(qkv, cos, sin, k_cache, v_cache, slots);
  RequireType(op, wqkv.scalar_type(), {&k_cache, &v_cache});
  RequireType(op, at::kFloat, {&cos, &sin});
  const cuda::HeadShape heads{shape.heads, shape.kv_heads, shape.head_dim};
  const cuda::Format format = CudaFormatOf(op, wqkv);
  Tensor q = at::empty({rows, shape.heads, shape.head_dim}, wqkv.options());  // (T, H, D)
  if (one) {
    Launched(op, cuda::DecodeQkv({.x = NormedRowOf(hidden, norm, eps),
                                  .wqkv = CudaMatrixOf(op, wqkv),
                                  .shape = heads,
                                  .cos = cos.const_data_ptr<float>(),
                                  .sin = sin.const_data_ptr<float>(),
                                  .slot = slots.const_data_ptr<int64_t>(),
                                  .q = q.mutable_data_ptr(),
                                  .k_cache = k_cache.mutable_data_ptr(),
                                  .v_cache = v_cache.mutable_data_ptr(),
                                  .format = format},
                                 CurrentCuda().context()));
    return q;
  }
  const Tensor x = RmsNorm(hidden, norm, eps);  // (T, C)
  Launched(op, cuda::QkvFewRows({.x = x.const_data_ptr(),
                                 .wqkv = CudaMatrixOf(op, wqkv),
                                 .heads = heads,
                                 .rows = rows,
                                 .cos = cos.const_data_ptr<float>(),
                                 .sin = sin.const_data_ptr<float>(),
                                 .slots = slots.const_data_ptr<int64_t>(),
                                 .q = q.mutable_data_ptr(),
                                 .k_cache = k_cache.mutable_data_ptr(),
                                 .v_cache = v_cache.mutable_data_ptr(),
                                 .format = format},
                                CurrentCuda().context()));
  return q;
}

/// Whether the two lie in one piece of memory, w1 first, so that one call can take both.
bool AreTogether(const Tensor& w1, const Tensor& w3) {
  return w1.storage().unsafeGetStorageImpl() == w3.storage().unsafeGetStorageImpl() &&
         w1.sizes() == w3.sizes() && w1.strides() == w3.strides() &&
         w1.storage_offset() < w3.storage_offset();
}

/// Both products in one call, whose parts fill the device better than those of one.
Tensor GateUpOfManyRows(const Tensor& hidden, const Tensor& norm, double eps, const Tensor& w1,
                        const Tensor& w3) {
  if (!AreTogether(w1, w3) || hidden.dim() != 2) {
    return ComposedNormGateUp(hidden, norm, eps, LinearWeight::Dense(w1), LinearWeight::Dense(w3));
  }
  const int64_t rows = hidden.size(0);
  const int64_t width = w1.size(0);
  const Tensor x = RmsNorm(hidden, norm, eps).unsqueeze(1).expand({-1, 2, -1});  // (T, 2, C)
  const Tensor weights =
      w1.as_strided({2, width, w1.size(1)},
                    {w3.storage_offset() - w1.storage_offset(), w1.stride(0), 1});  // (2, F, C)
  Tensor both = at::empty({rows, 2, width}, w1.options());                          // (T, 2, F)
  LinearInto_(both, x, weights);
  Tensor gate = both.select(1, 0);  // (T, F)
  SiluMul_(gate, both.select(1, 1));
  return gate;
}

Tensor FusedGateUp(const Tensor& hidden, const Tensor& norm, double eps, const Tensor& w1,
                   const Tensor& w3) {
  const char* op = "norm_gate_up";
  const bool one = IsOneRow(hidden, w1);
  if (!one && !IsFewRows(hidden, w1)) return GateUpOfManyRows(hidden, norm, eps, w1, w3);
  const int64_t rows = hidden.size(0);
  CheckNormed(op, hidden, norm, w1);
  CheckNormed(op, hidden, norm, w3);
  Check(w1.sizes() == w3.sizes(), op, ": w1 ", w1.sizes(), " and w3 ", w3.sizes(), " differ");
  RequireType(op, w1.scalar_type(), {&w3});
  const cuda::Format format = CudaFormatOf(op, w1);
  Tensor out = at::empty({rows, w1.size(0)}, w1.options());  // (T, F)
  if (one) {
    Launched(op, cuda::DecodeGateUp({.x = NormedRowOf(hidden, norm, eps),
                                     .w1 = CudaMatrixOf(op, w1),
                                     .w3 = CudaMatrixOf(op, w3),
                                     .out = out.mutable_data_ptr(),
                                     .format = format},
                                    CurrentCuda().context()));
    return out;
  }
  const Tensor x = RmsNorm(hidden, norm, eps);  // (T, C)
  Launched(op, cuda::GateUpFewRows({.x = x.const_data_ptr(),
                                    .w1 = CudaMatrixOf(op, w1),
                                    .w3 = CudaMatrixOf(op, w3),
                                    .rows = rows,
                                    .out = out.mutable_data_ptr(),
                                    .format = format},
                                   CurrentCuda().context()));
  return out;
}

void Scores(Tensor& scores, const Tensor& hidden, const Tensor& norm, double eps,
            const Tensor& output) {
  const char* op = "norm_scores_";
  CheckNormScores(scores, hidden, output);
  if (!IsOneRow(hidden, output)) {
    const Tensor x = RmsNorm(hidden, norm, eps);  // (R, C)
    return Multiply({.op = op,
                     .x = x,
                     .weight = output,
                     .bias = std::nullopt,
                     .result = cuda::LinearResult::kFloat},
                    scores);
  }
  CheckNormed(op, hidden, norm, output);
  Launched(op, cuda::DecodeLogits({.x = NormedRowOf(hidden, norm, eps),
                                   .weight = CudaMatrixOf(op, output),
                                   .logits = scores.mutable_data_ptr<float>(),
                                   .format = CudaFormatOf(op, output)},
                                  CurrentCuda().context()));
}

static_assert(sizeof(ChoiceRule) == sizeof(cuda::SamplingOptions) &&
              offsetof(ChoiceRule, temperature) == offsetof(cuda::SamplingOptions, temperature) &&
              offsetof(ChoiceRule, dropped_mass) == offsetof(cuda::SamplingOptions, dropped_mass) &&
              offsetof(ChoiceRule, repetition_penalty) ==
                  offsetof(cuda::SamplingOptions, repetition_penalty) &&
              offsetof(ChoiceRule, top_k) == offsetof(cuda::SamplingOptions, top_k) &&
              offsetof(ChoiceRule, do_sample) == offsetof(cuda::SamplingOptions, do_sample));

Tensor Choose(const Tensor& scores, const Tensor& rules, Tensor& seen, Tensor& steps) {
  const char* op = "choose_ids";
  CheckChooseIds(scores, rules, sizeof(ChoiceRule), seen, steps);
  Tensor ids = at::empty({scores.size(0)}, seen.options());  // (R)
  const auto* options = static_cast<const cuda::SamplingOptions*>(rules.const_data_ptr());
  CudaResources& cuda = CurrentCuda();
  const Tensor partial = at::empty({cuda::SamplePartialWords(scores.size(0), scores.size(1))},
                                   seen.options().dtype(at::kLong));
  Launched(op, cuda::Sample({.logits = scores.const_data_ptr<float>(),
                             .rows = scores.size(0),
                             .vocab = scores.size(1),
                             .options = options,
                             .seen = static_cast<uint32_t*>(seen.mutable_data_ptr()),
                             .steps = steps.mutable_data_ptr<int64_t>(),
                             .ids = ids.mutable_data_ptr<int32_t>(),
                             .partial = static_cast<uint64_t*>(partial.mutable_data_ptr()),
                             .counters = cuda.Counters(scores.size(0))},
                            cuda.context()));
  return ids;
}

}  // namespace

void RegisterCudaDecode(torch::Library& m) {
  m.impl("norm_qkv_rope", &FusedQkvRope);
  m.impl("norm_gate_up", &FusedGateUp);
  m.impl("norm_scores_", &Scores);
  m.impl("choose_ids", &Choose);
}

}  // namespace xcomposer::ops
