#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <optional>

#include "base/check.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/norm.h"
#include "ops/arguments.h"
#include "ops/cuda_arguments.h"
#include "ops/cuda_library.h"
#include "ops/cuda_resources.h"

// The ops that treat rows or single numbers: norms, activations, sums, the embedding, block copies.
namespace xcomposer::ops {
namespace {

using at::IntArrayRef;
using at::Tensor;

cuda::NormParams NormParamsOf(const char* op, const Tensor& x, const Tensor& weight, double eps) {
  RequireType(op, at::kFloat, {&x});
  const int64_t columns = x.size(-1);
  return {.x = x.const_data_ptr<float>(),
          .weight = weight.const_data_ptr(),
          .rows = columns == 0 ? 0 : x.numel() / columns,
          .columns = columns,
          .eps = static_cast<float>(eps),
          .format = CudaFormatOf(op, weight)};
}

Tensor RmsNorm(const Tensor& x, const Tensor& weight, double eps) {
  CheckNorm("rms_norm", x, weight, std::nullopt);
  cuda::NormParams params = NormParamsOf("rms_norm", x, weight, eps);
  Tensor out = at::empty(x.sizes(), weight.options());
  params.out = out.mutable_data_ptr();
  Launched("rms_norm", cuda::RmsNorm(params, CurrentCuda().context()));
  return out;
}

void RmsNormInto(Tensor& out, const Tensor& x, const Tensor& weight, double eps) {
  const char* op = "rms_norm_into_";
  CheckNorm(op, x, weight, std::nullopt);
  CheckRowsInto(op, out, x.sizes());
  RequireType(op, weight.scalar_type(), {&out});
  cuda::NormParams params = NormParamsOf(op, x, weight, eps);
  params.out = out.mutable_data_ptr();
  params.out_stride = RowStride(out);
  Launched(op, cuda::RmsNorm(params, CurrentCuda().context()));
}

Tensor LayerNorm(const Tensor& x, const Tensor& weight, const Tensor& bias, double eps) {
  CheckNorm("layer_norm", x, weight, bias);
  RequireType("layer_norm", weight.scalar_type(), {&bias});
  cuda::NormParams params = NormParamsOf("layer_norm", x, weight, eps);
  Tensor out = at::empty(x.sizes(), weight.options());
  params.bias = bias.const_data_ptr();
  params.out = out.mutable_data_ptr();
  Launched("layer_norm", cuda::LayerNorm(params, CurrentCuda().context()));
  return out;
}

Tensor AddLayerNorm(Tensor& y, const Tensor& x, const Tensor& weight, const Tensor& bias,
                    double eps) {
  const char* op = "add_layer_norm";
  CheckNorm(op, y, weight, bias);
  CheckSameShape(op, y, x);
  RequireType(op, at::kFloat, {&y});
  RequireType(op, weight.scalar_type(), {&x, &bias});
  const int64_t columns = y.size(-1);
  Tensor out = at::empty(y.sizes(), weight.options());
  Launched(op, cuda::AddLayerNorm({.x = y.mutable_data_ptr<float>(),
                                   .added = x.const_data_ptr(),
                                   .weight = weight.const_data_ptr(),
                                   .bias = bias.const_data_ptr(),
                                   .out = out.mutable_data_ptr(),
                                   .rows = columns == 0 ? 0 : y.numel() / columns,
                                   .columns = columns,
                                   .eps = static_cast<float>(eps),
                                   .format = CudaFormatOf(op, weight)},
                                  CurrentCuda().context()));
  return out;
}

void LayerNormInPlace(Tensor& x, const Tensor& weight, const Tensor& bias, double eps) {
  CheckNorm("layer_norm_", x, weight, bias);
  RequireType("layer_norm_", weight.scalar_type(), {&bias});
  cuda::NormParams params = NormParamsOf("layer_norm_", x, weight, eps);
  params.bias = bias.const_data_ptr();
  params.out = x.mutable_data_ptr();
  Launched("layer_norm_", cuda::LayerNormToFloat(params, CurrentCuda().context()));
}

cuda::ActivationParams ActivationOf(const char* op, Tensor& x) {
  CheckElementwise(op, x);
  return {.x = x.mutable_data_ptr(), .count = x.numel(), .format = CudaFormatOf(op, x)};
}

void QuickGelu(Tensor& x) {
  Launched("quick_gelu_", cuda::QuickGelu(ActivationOf("quick_gelu_", x), CurrentCuda().context()));
}

void Gelu(Tensor& x) {
  Launched("gelu_", cuda::Gelu(ActivationOf("gelu_", x), CurrentCuda().context()));
}

void SiluMul(Tensor& gate, const Tensor& up) {
  CheckSiluMul(gate, up);
  RequireType("silu_mul_", gate.scalar_type(), {&up});
  if (gate.numel() == 0) return;
  const int64_t columns = gate.size(-1);
  const int64_t stride = gate.is_contiguous() ? columns : gate.stride(0);
  Launched("silu_mul_", cuda::SiluMul({.gate = gate.const_data_ptr(),
                                       .up = up.const_data_ptr(),
                                       .in_stride = stride,
                                       .out = gate.mutable_data_ptr(),
                                       .out_stride = stride,
                                       .rows = gate.numel() / columns,
                                       .columns = columns,
                                       .format = CudaFormatOf("silu_mul_", gate)},
                                      CurrentCuda().context()));
}

void Add(Tensor& y, const Tensor& x) {
  CheckSameShape("add_", y, x);
  RequireType("add_", at::kFloat, {&y});
  Launched("add_", cuda::Add({.y = y.mutable_data_ptr<float>(),
                              .x = x.const_data_ptr(),
                              .count = y.numel(),
                              .format = CudaFormatOf("add_", x)},
                             CurrentCuda().context()));
}

/// Ids come from checked batches: one beyond the table gives rows of NaN, not an error.
Tensor Embedding(const Tensor& ids, const Tensor& table) {
  const auto shape = CheckEmbedding(ids, table);
  Check(table.is_contiguous(), "embedding: the table must be dense on CUDA");
  const Tensor rows = ids.to(at::kInt);
  Tensor out = at::empty(shape, table.options().dtype(at::kFloat));  // (T, C)
  Launched("embedding", cuda::Embedding({.ids = rows.const_data_ptr<int32_t>(),
                                         .table = table.const_data_ptr(),
                                         .out = out.mutable_data_ptr<float>(),
                                         .rows = shape[0],
                                         .columns = shape[1],
                                         .vocab = table.size(0),
                                         .format = CudaFormatOf("embedding", table)},
                                        CurrentCuda().context()));
  return out;
}

void CopyBlocks(Tensor& cache, IntArrayRef source, IntArrayRef target) {
  CheckCopyBlocks(cache, source, target);
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != target[i]) cache.select(0, target[i]).copy_(cache.select(0, source[i]));
  }
}

}  // namespace

void RegisterCudaRows(torch::Library& m) {
  m.impl("rms_norm", &RmsNorm);
  m.impl("rms_norm_into_", &RmsNormInto);
  m.impl("layer_norm", &LayerNorm);
  m.impl("add_layer_norm", &AddLayerNorm);
  m.impl("layer_norm_", &LayerNormInPlace);
  m.impl("quick_gelu_", &QuickGelu);
  m.impl("gelu_", &Gelu);
  m.impl("silu_mul_", &SiluMul);
  m.impl("add_", &Add);
  m.impl("embedding", &Embedding);
  m.impl("copy_blocks_", &CopyBlocks);
}

}  // namespace xcomposer::ops
