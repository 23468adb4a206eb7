#include <cmath>
#include <optional>
#include <tuple>

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <torch/library.h>

#include "base/check.h"
#include "ops/arguments.h"

// The ops composed of LibTorch's own: right, and as slow as the copies of the weights they make.
namespace xcomposer::ops {
namespace {

using at::IntArrayRef;
using at::Tensor;

Tensor Linear(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias) {
  CheckLinear(x, weight, bias);
  Tensor y = at::matmul(x, weight.to(at::kFloat).t());
  if (bias) y.add_(bias->to(at::kFloat));
  return y;
}

void LinearAddRows(Tensor& y, const Tensor& x, const Tensor& a, const Tensor& b, IntArrayRef spans,
                   double scale) {
  CheckLinearAddRows(y, x, a, b, spans);
  for (size_t i = 0; i < spans.size(); i += 2) {
    const Tensor rows = x.slice(0, spans[i], spans[i + 1]);
    const Tensor low = at::matmul(rows, a.to(at::kFloat).t());
    y.slice(0, spans[i], spans[i + 1]).add_(at::matmul(low, b.to(at::kFloat).t()), scale);
  }
}

Tensor RmsNorm(const Tensor& x, const Tensor& weight, double eps) {
  CheckNorm("rms_norm", x, weight, std::nullopt);
  return x * at::rsqrt(x.square().mean(-1, true) + eps) * weight.to(at::kFloat);
}

Tensor LayerNorm(const Tensor& x, const Tensor& weight, const Tensor& bias, double eps) {
  CheckNorm("layer_norm", x, weight, bias);
  return at::layer_norm(x, x.size(-1), weight.to(at::kFloat), bias.to(at::kFloat), eps);
}

void QuickGelu(Tensor& x) {
  CheckElementwise("quick_gelu_", x);
  x.mul_(at::sigmoid(x * 1.702));
}

void Gelu(Tensor& x) {
  CheckElementwise("gelu_", x);
  x.copy_(at::gelu(x));
}

void SiluMul(Tensor& gate, const Tensor& up) {
  CheckSameShape("silu_mul_", gate, up);
  gate.copy_(at::silu(gate) * up);
}

void Add(Tensor& y, const Tensor& x) {
  CheckSameShape("add_", y, x);
  y.add_(x);
}

Tensor Embedding(const Tensor& ids, const Tensor& table) {
  CheckEmbedding(ids, table);
  const Tensor rows = ids.to(at::kLong);
  Check(rows.numel() == 0 || rows.max().item<int64_t>() < table.size(0),
        "embedding: an id is outside of the table of ", table.size(0), " rows");
  const Tensor real = (rows >= 0).to(at::kFloat).unsqueeze(1);
  return at::index_select(table, 0, rows.clamp_min(0)).to(at::kFloat) * real;
}

std::tuple<Tensor, Tensor> RopeTable(const Tensor& bases, const Tensor& positions,
                                     int64_t head_dim) {
  CheckRopeTable(bases, positions, head_dim);
  const Tensor exponents =
      at::arange(0, head_dim, 2, bases.options()).div(head_dim).to(at::kFloat);
  const Tensor inverse =
      at::reciprocal(at::pow(bases.to(at::kFloat).unsqueeze(1), exponents.unsqueeze(0)));
  const Tensor angles = positions.to(at::kFloat).unsqueeze(1) * inverse;
  return {angles.cos(), angles.sin()};
}

Tensor RopeKv(const Tensor& qkv, const Tensor& cos, const Tensor& sin, Tensor& k_cache,
              Tensor& v_cache, const Tensor& slots) {
  const HeadShape shape = CheckRopeKv(qkv, cos, sin, k_cache, v_cache, slots);
  const int64_t group = shape.heads / shape.kv_heads;
  const int64_t half = shape.head_dim / 2;
  const Tensor packed =
      qkv.reshape({shape.rows, shape.kv_heads, group + 2, shape.head_dim});  // (T, G, H/G + 2, D)
  const Tensor c = cos.reshape({shape.rows, 1, 1, half});
  const Tensor s = sin.reshape({shape.rows, 1, 1, half});
  const Tensor low = packed.slice(3, 0, half);
  const Tensor high = packed.slice(3, half);
  const Tensor rotated = at::cat(std::vector<Tensor>{low * c - high * s, high * c + low * s}, 3);
  k_cache.view({-1, shape.kv_heads, shape.head_dim})
      .index_copy_(0, slots, rotated.select(2, group));
  v_cache.view({-1, shape.kv_heads, shape.head_dim})
      .index_copy_(0, slots, packed.select(2, group + 1));
  return rotated.slice(2, 0, group)
      .contiguous()
      .view({shape.rows, shape.heads, shape.head_dim});  // (T, H, D)
}

Tensor PagedAttention(const Tensor& q, const Tensor& k_cache, const Tensor& v_cache,
                      const Tensor& first_rows, const Tensor& row_counts, const Tensor& positions,
                      const Tensor& block_tables) {
  const HeadShape shape = CheckPagedAttention(q, k_cache, v_cache, first_rows, row_counts,
                                              positions, block_tables);
  Tensor out = at::zeros_like(q);
  const int64_t block_size = k_cache.size(1);
  const int64_t group = shape.heads / shape.kv_heads;
  for (int64_t s = 0; s < first_rows.size(0); ++s) {
    const int64_t first = first_rows.data_ptr<int32_t>()[s];
    const int64_t rows = row_counts.data_ptr<int32_t>()[s];
    const int64_t position = positions.data_ptr<int32_t>()[s];
    if (rows == 0) continue;
    const int64_t length = position + rows;
    const Tensor blocks =
        block_tables[s].slice(0, 0, (length + block_size - 1) / block_size).to(at::kLong);
    const auto gather = [&](const Tensor& cache) {
      return at::index_select(cache, 0, blocks)
          .view({-1, shape.kv_heads, shape.head_dim})
          .slice(0, 0, length)
          .repeat_interleave(group, 1)
          .transpose(0, 1);  // (H, keys, D)
    };
    const Tensor queries = q.slice(0, first, first + rows).transpose(0, 1);  // (H, rows, D)
    Tensor scores = at::matmul(queries, gather(k_cache).transpose(1, 2)) /
                    std::sqrt(static_cast<double>(shape.head_dim));
    const Tensor future = at::ones({rows, length}, q.options().dtype(at::kBool)).triu(position + 1);
    scores.masked_fill_(future, -INFINITY);
    out.slice(0, first, first + rows)
        .copy_(at::matmul(at::softmax(scores, -1), gather(v_cache)).transpose(0, 1));
  }
  return out;
}

Tensor VisionAttention(const Tensor& q, const Tensor& k, const Tensor& v) {
  CheckVisionAttention(q, k, v);
  const double scale = 1.0 / std::sqrt(static_cast<double>(q.size(3)));
  const Tensor scores = at::matmul((q * scale).transpose(1, 2), k.permute({0, 2, 3, 1}));
  return at::matmul(at::softmax(scores, -1), v.transpose(1, 2)).transpose(1, 2).contiguous();
}

void CopyBlocks(Tensor& cache, IntArrayRef source, IntArrayRef target) {
  CheckCopyBlocks(cache, source, target);
  for (size_t i = 0; i < source.size(); ++i) cache[target[i]].copy_(cache[source[i]]);
}

}  // namespace

TORCH_LIBRARY_IMPL(xcomposer, CPU, m) {
  m.impl("linear", &Linear);
  m.impl("linear_add_rows_", &LinearAddRows);
  m.impl("rms_norm", &RmsNorm);
  m.impl("layer_norm", &LayerNorm);
  m.impl("quick_gelu_", &QuickGelu);
  m.impl("gelu_", &Gelu);
  m.impl("silu_mul_", &SiluMul);
  m.impl("add_", &Add);
  m.impl("embedding", &Embedding);
  m.impl("rope_table", &RopeTable);
  m.impl("rope_kv", &RopeKv);
  m.impl("paged_attention", &PagedAttention);
  m.impl("vision_attention", &VisionAttention);
  m.impl("copy_blocks_", &CopyBlocks);
}

}  // namespace xcomposer::ops
