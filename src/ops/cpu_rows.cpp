#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <cstddef>
#include <optional>

#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/norm.h"
#include "ops/arguments.h"
#include "ops/cpu_context.h"
#include "ops/step_memory.h"

// The ops that treat rows or single numbers: norms, activations, sums, the embedding, block copies.
namespace xcomposer::ops {
namespace {

using at::IntArrayRef;
using at::Tensor;

cpu::NormParams NormParamsOf(const Tensor& x, Tensor& out, double eps) {
  const int64_t columns = x.size(-1);
  return {.x = x.const_data_ptr<float>(),
          .out = out.mutable_data_ptr<float>(),
          .rows = columns == 0 ? 0 : x.numel() / columns,
          .columns = columns,
          .eps = static_cast<float>(eps)};
}

Tensor RmsNorm(const Tensor& x, const Tensor& weight, double eps) {
  CheckNorm("rms_norm", x, weight, std::nullopt);
  Tensor out = EmptyResult(x.sizes(), x.options());
  cpu::RmsNorm(NormParamsOf(x, out, eps), StoredVectorOf(weight), CurrentContext());
  return out;
}

Tensor LayerNorm(const Tensor& x, const Tensor& weight, const Tensor& bias, double eps) {
  CheckNorm("layer_norm", x, weight, bias);
  Tensor out = EmptyResult(x.sizes(), x.options());
  cpu::LayerNorm(NormParamsOf(x, out, eps), StoredVectorOf(weight), StoredVectorOf(bias),
                 CurrentContext());
  return out;
}

void QuickGelu(Tensor& x) {
  CheckElementwise("quick_gelu_", x);
  cpu::QuickGelu(x.mutable_data_ptr<float>(), x.numel(), CurrentContext());
}

void Gelu(Tensor& x) {
  CheckElementwise("gelu_", x);
  cpu::Gelu(x.mutable_data_ptr<float>(), x.numel(), CurrentContext());
}

void SiluMul(Tensor& gate, const Tensor& up) {
  CheckSiluMul(gate, up);
  if (gate.is_contiguous()) {
    return cpu::SiluMul(gate.mutable_data_ptr<float>(), up.const_data_ptr<float>(), gate.numel(),
                        CurrentContext());
  }
  for (int64_t row = 0; row < gate.size(0); ++row) {
    cpu::SiluMul(gate.mutable_data_ptr<float>() + row * gate.stride(0),
                 up.const_data_ptr<float>() + row * up.stride(0), gate.size(1), CurrentContext());
  }
}

void Add(Tensor& y, const Tensor& x) {
  CheckSameShape("add_", y, x);
  cpu::Add(y.mutable_data_ptr<float>(), x.const_data_ptr<float>(), y.numel(), CurrentContext());
}

Tensor Embedding(const Tensor& ids, const Tensor& table) {
  const auto shape = CheckEmbedding(ids, table);
  const Tensor rows = ids.to(at::kLong);
  const int64_t* row = rows.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < rows.numel(); ++i) {
    Check(row[i] < table.size(0), "embedding: id ", row[i], " at row ", i,
          " is outside of the table of ", table.size(0), " rows");
  }
  Tensor out = EmptyResult(shape, table.options().dtype(at::kFloat));  // (T, C)
  cpu::Embedding(row, rows.numel(), StoredMatrixOf(table), out.mutable_data_ptr<float>(),
                 CurrentContext());
  return out;
}

Tensor NormalisePixels(const Tensor& rgb, const Tensor& levels) {
  Tensor out = at::empty(CheckNormalisePixels(rgb, levels), levels.options());  // (3, h, w)
  const auto* pixels = rgb.const_data_ptr<uint8_t>();
  const int64_t area = rgb.size(0) * rgb.size(1);
  for (int64_t channel = 0; channel < 3; ++channel) {
    const float* level = levels.const_data_ptr<float>() + channel * 256;
    float* plane = out.mutable_data_ptr<float>() + channel * area;
    for (int64_t i = 0; i < area; ++i) plane[i] = level[pixels[3 * i + channel]];
  }
  return out;
}

void CopyBlocks(Tensor& cache, IntArrayRef source, IntArrayRef target) {
  CheckCopyBlocks(cache, source, target);
  if (source.empty() || cache.numel() == 0) return;
  const int64_t bytes = static_cast<int64_t>(cache.nbytes()) / cache.size(0);
  auto* data = static_cast<std::byte*>(cache.mutable_data_ptr());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == target[i]) continue;
    std::copy_n(data + source[i] * bytes, bytes, data + target[i] * bytes);
  }
}

}  // namespace

TORCH_LIBRARY_IMPL(xcomposer, CPU, m) {
  m.impl("rms_norm", &RmsNorm);
  m.impl("layer_norm", &LayerNorm);
  m.impl("quick_gelu_", &QuickGelu);
  m.impl("gelu_", &Gelu);
  m.impl("silu_mul_", &SiluMul);
  m.impl("add_", &Add);
  m.impl("embedding", &Embedding);
  m.impl("normalise_pixels", &NormalisePixels);
  m.impl("copy_blocks_", &CopyBlocks);
}

}  // namespace xcomposer::ops
