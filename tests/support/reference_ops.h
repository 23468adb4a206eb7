#pragma once

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <cmath>
#include <optional>
#include <tuple>
#include <vector>

#include "ops/ops.h"

/// What each op means: composed of LibTorch's own ops in float64, with the arguments of ops/ops.h.
/// Slow and short; an op is an optimisation of the function of the same name here. All results are
/// float64.
namespace xcomposer::reference {

inline at::Tensor Wide(const at::Tensor& t) { return t.to(at::kDouble); }

inline at::Tensor Linear(const at::Tensor& x, const at::Tensor& weight,
                         const std::optional<at::Tensor>& bias = std::nullopt) {
  const at::Tensor y = at::matmul(Wide(x), Wide(weight).t());
  return bias ? y + Wide(*bias) : y;
}

/// The `bits` wide fields of words (R, C), in the order of `fields`, side by side: (R, C * fields).
inline at::Tensor Fields(const at::Tensor& words, int bits, const std::vector<int64_t>& fields) {
  std::vector<at::Tensor> parts;
  for (const int64_t field : fields) {
    parts.push_back(at::bitwise_and(at::bitwise_right_shift(words.to(at::kLong), bits * field),
                                    (1 << bits) - 1));
  }
  return Wide(at::stack(parts, 2).flatten(1));
}

/// W (N, K) of a packed weight: scale * (code - zero).
inline at::Tensor Dequantised(const ops::LinearWeight& weight) {
  const bool awq = weight.packing == ops::WeightPacking::kAwq4;
  const bool own =
      weight.packing == ops::WeightPacking::kInt4 || weight.packing == ops::WeightPacking::kInt8;
  const int bits = weight.bits();
  // Panels side by side: (rows, outputs or words of them).
  const auto flat = [&](const at::Tensor& t) { return own ? t.permute({1, 0, 2}).flatten(1) : t; };
  std::vector<int64_t> order;
  for (int64_t i = 0; i < 32 / bits; ++i) order.push_back(i);
  if (awq) order = {0, 4, 1, 5, 2, 6, 3, 7};
  const at::Tensor codes =
      awq ? Fields(weight.data, bits, order).t() : Fields(flat(weight.data).t(), bits, order);
  const at::Tensor group_of_input = at::arange(codes.size(1)).div(weight.group, "floor");  // (K)
  const auto per_input = [&](const at::Tensor& per_group) {
    return at::index_select(per_group, 0, group_of_input).t();  // (N, K)
  };
  const at::Tensor zeros = Fields(flat(weight.zeros), bits, order) + (awq || own ? 0.0 : 1.0);
  return per_input(Wide(flat(weight.scales))) * (codes - per_input(zeros));
}

/// The convolution as LibTorch has it.
inline at::Tensor EmbedViews(const at::Tensor& views, const at::Tensor& patch_embedding,
                             const at::Tensor& classes, const at::Tensor& positions) {
  const auto patch = static_cast<int64_t>(
      std::lround(std::sqrt(static_cast<double>(patch_embedding.size(1)) / 3)));
  const at::Tensor patches =
      at::conv2d(Wide(views), Wide(patch_embedding).view({-1, 3, patch, patch}), {}, patch)
          .flatten(2)
          .transpose(1, 2);  // (n, N, C)
  const at::Tensor first =
      Wide(classes).view({1, 1, -1}).expand({views.size(0), 1, classes.size(0)});
  return at::cat({first, patches}, 1) + Wide(positions);
}

/// Returns the new y.
inline at::Tensor LinearAddRows(const at::Tensor& y, const at::Tensor& x, const at::Tensor& a,
                                const at::Tensor& b, at::IntArrayRef spans, double scale) {
  at::Tensor out = Wide(y).clone();
  for (size_t i = 0; i + 1 < spans.size(); i += 2) {
    const at::Tensor low = Linear(x.slice(0, spans[i], spans[i + 1]), a);
    out.slice(0, spans[i], spans[i + 1]).add_(Linear(low, b), scale);
  }
  return out;
}

inline at::Tensor RmsNorm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  const at::Tensor wide = Wide(x);
  return wide * at::rsqrt(wide.square().mean(-1, true) + eps) * Wide(weight);
}

inline at::Tensor LayerNorm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                            double eps) {
  const at::Tensor wide = Wide(x);
  const at::Tensor centred = wide - wide.mean(-1, true);
  const at::Tensor variance = centred.square().mean(-1, true);
  return centred * at::rsqrt(variance + eps) * Wide(weight) + Wide(bias);
}

inline at::Tensor QuickGelu(const at::Tensor& x) { return Wide(x) * at::sigmoid(1.702 * Wide(x)); }

inline at::Tensor Gelu(const at::Tensor& x) {
  return 0.5 * Wide(x) * (1.0 + at::erf(Wide(x) / std::sqrt(2.0)));
}

inline at::Tensor SiluMul(const at::Tensor& gate, const at::Tensor& up) {
  return Wide(gate) * at::sigmoid(Wide(gate)) * Wide(up);
}

inline at::Tensor Embedding(const at::Tensor& ids, const at::Tensor& table) {
  const at::Tensor rows = ids.to(at::kLong);
  return at::index_select(Wide(table), 0, rows.clamp_min(0)) * Wide(rows >= 0).unsqueeze(1);
}

/// Angles as the specification has them, in float32; their cosines and sines in float64.
inline std::tuple<at::Tensor, at::Tensor> RopeTable(const at::Tensor& inverse_frequencies,
                                                    const at::Tensor& tables,
                                                    const at::Tensor& positions) {
  const at::Tensor inverse = at::index_select(inverse_frequencies, 0, tables);
  const at::Tensor angles = Wide(positions.to(at::kFloat).unsqueeze(1) * inverse);
  return {angles.cos(), angles.sin()};
}

struct Rotated {
  at::Tensor q;  ///< (T, H, D)
  at::Tensor k;  ///< (T, G, D)
  at::Tensor v;  ///< (T, G, D)
};

/// Without the cache: what goes into it comes back as k and v.
inline Rotated RopeKv(const at::Tensor& qkv, const at::Tensor& cos, const at::Tensor& sin,
                      int64_t kv_heads, int64_t head_dim) {
  const int64_t rows = qkv.size(0);
  const int64_t slots = qkv.size(1) / kv_heads / head_dim;
  const int64_t half = head_dim / 2;
  const at::Tensor packed = Wide(qkv).reshape({rows, kv_heads, slots, head_dim});
  const at::Tensor c = Wide(cos).reshape({rows, 1, 1, half});
  const at::Tensor s = Wide(sin).reshape({rows, 1, 1, half});
  const at::Tensor low = packed.slice(3, 0, half);
  const at::Tensor high = packed.slice(3, half);
  const at::Tensor rotated =
      at::cat(std::vector<at::Tensor>{low * c - high * s, high * c + low * s}, 3);
  return {.q = rotated.slice(2, 0, slots - 2).reshape({rows, kv_heads * (slots - 2), head_dim}),
          .k = rotated.select(2, slots - 2),
          .v = packed.select(2, slots - 1)};
}

/// Softmax of scores (..., rows, keys) where `seen`, times values.
inline at::Tensor Attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                         const std::optional<at::Tensor>& seen) {
  at::Tensor scores =
      at::matmul(q, k.transpose(-1, -2)) / std::sqrt(static_cast<double>(q.size(-1)));
  if (seen) scores = scores.masked_fill(seen->logical_not(), -INFINITY);
  return at::matmul(at::softmax(scores, -1), v);
}

inline at::Tensor PagedAttention(const at::Tensor& q, const at::Tensor& k_cache,
                                 const at::Tensor& v_cache, const ops::SequenceTable& table) {
  at::Tensor out = at::zeros_like(Wide(q));
  const int64_t block_size = k_cache.size(1);
  const int64_t kv_heads = k_cache.size(2);
  const int64_t head_dim = k_cache.size(3);
  for (int64_t s = 0; s < table.first_rows.size(0); ++s) {
    const int64_t first = table.first_rows.const_data_ptr<int32_t>()[s];
    const int64_t rows = table.row_counts.const_data_ptr<int32_t>()[s];
    const int64_t position = table.positions.const_data_ptr<int32_t>()[s];
    if (rows == 0) continue;
    const int64_t keys = position + rows;
    const at::Tensor blocks =
        table.block_tables[s].slice(0, 0, (keys + block_size - 1) / block_size).to(at::kLong);
    const auto gather = [&](const at::Tensor& cache) {
      return Wide(at::index_select(cache, 0, blocks))
          .reshape({-1, kv_heads, head_dim})
          .slice(0, 0, keys)
          .repeat_interleave(q.size(1) / kv_heads, 1)
          .transpose(0, 1);  // (H, keys, D)
    };
    const at::Tensor seen = at::ones({rows, keys}, at::kBool).tril(position);
    const at::Tensor queries = Wide(q.slice(0, first, first + rows)).transpose(0, 1);
    out.slice(0, first, first + rows)
        .copy_(Attend(queries, gather(k_cache), gather(v_cache), seen).transpose(0, 1));
  }
  return out;
}

inline at::Tensor VisionAttention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  return Attend(Wide(q).transpose(1, 2), Wide(k).transpose(1, 2), Wide(v).transpose(1, 2),
                std::nullopt)
      .transpose(1, 2);
}

}  // namespace xcomposer::reference
