#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <tuple>

#include "ops/choice_rule.h"
#include "ops/linear_weight.h"

/// The arithmetic of the family, one function per op, each behind the dispatcher (library
/// "xcomposer", back ends CPU, CUDA and Meta). There is no autograd: call under c10::InferenceMode.
///
/// Weights are bfloat16, float16 or float32 as stored, row-major, and may be views (row stride);
/// sums are float32. On the CPU activations are float32, and an op works on the threads of the pool
/// that the calling thread has installed (cpu::ThreadPoolScope), and on the calling thread alone
/// where there is none; the numbers do not depend on the count of threads.
///
/// On CUDA weights, activations, keys and values are float16 or bfloat16, one of them throughout;
/// an op rounds its float32 result to that type once. What the functions below call float32 is so
/// everywhere: the residual stream and the scores. An op works on the stream of the CudaScope that
/// the calling thread has installed (ops/cuda_resources.h).
///
/// Every function throws Error(kInternal) when dtype, shape or layout of an argument is not as
/// stated. Letters: T rows of a batch, C channels, H query heads, G key-value heads, D head
/// dimension.
namespace xcomposer::ops {

/// y = x W^T + bias. x (..., K), weight (N, K), bias (N) -> (..., N).
at::Tensor Linear(const at::Tensor& x, const at::Tensor& weight,
                  const std::optional<at::Tensor>& bias = std::nullopt);

/// The same for a weight in any format, with its bias. Packed weights are dequantised on the way,
/// exactly, and never as a whole; sums are float32, with kBf12 those of the bfloat16 matrix bit for
/// bit. With weights of kInt4 and kInt8, rows of x are rounded to integers instead
/// (docs/quantisation.md).
at::Tensor Linear(const at::Tensor& x, const LinearWeight& weight);

/// y = x W^T in float32. x (..., K), weight (N, K) -> (..., N).
at::Tensor LinearFloat(const at::Tensor& x, const at::Tensor& weight);

/// y = scale * x W^T, where y lies: y (T, N), x (T, K), weight (N, K), rows of all three may lie
/// apart. Or P such products in one call: y (T, P, N), x (T, P, K), weight (P, N, K); what belongs
/// to the next one lies a fixed distance further on, in x there may be none, or less than K.
void LinearInto_(at::Tensor& y, const at::Tensor& x, const at::Tensor& weight, double scale = 1.0);

/// y += x W^T: the products that end in the residual stream. y (T, N) float32, x (T, K), whose rows
/// may lie apart where the weight is not packed.
void LinearAdd_(at::Tensor& y, const at::Tensor& x, const LinearWeight& weight);

/// Partial LoRA (model specification 5): y[rows] += scale * B (A x[rows]) for the rows of each
/// span. y (T, N), x (T, K), a (R, K), b (N, R); spans = begin0, end0, begin1, end1, ... half-open,
/// ascending, without overlap; no spans or empty ones leave y as it is.
void LinearAddRows_(at::Tensor& y, const at::Tensor& x, const at::Tensor& a, const at::Tensor& b,
                    at::IntArrayRef spans, double scale);

/// x * rsqrt(mean(x^2) + eps) * weight (model specification 7). x (..., C) float32, weight (C) ->
/// (..., C).
at::Tensor RmsNorm(const at::Tensor& x, const at::Tensor& weight, double eps = 1e-5);

/// The same where `out` (T, C) lies, whose rows may lie apart.
void RmsNormInto_(at::Tensor& out, const at::Tensor& x, const at::Tensor& weight, double eps);

/// (x - mean) * rsqrt(variance + eps) * weight + bias. x (..., C) float32, weight and bias (C) ->
/// (..., C).
at::Tensor LayerNorm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                     double eps = 1e-5);

/// The same in place, in float32: a norm that begins a residual stream.
void LayerNorm_(at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, double eps = 1e-5);

/// x = x * sigmoid(1.702 x), the vision tower's activation.
void QuickGelu_(at::Tensor& x);

/// x = x * (1 + erf(x / sqrt 2)) / 2, the projector's activation.
void Gelu_(at::Tensor& x);

/// gate = silu(gate) * up, with silu(g) = g * sigmoid(g); equal shapes. The rows of two matrices
/// may lie apart, equally far in both.
void SiluMul_(at::Tensor& gate, const at::Tensor& up);

/// y += x; equal shapes, y float32.
void Add_(at::Tensor& y, const at::Tensor& x);

/// Rows of the table as float32. ids (T) int32 or int64, table (V, C) -> (T, C). A negative id
/// gives a row of zeros: a place that a picture's features will take. An id of V or more is an
/// error.
at::Tensor Embedding(const at::Tensor& ids, const at::Tensor& table);

/// Cosines and sines of the rotary angles position * inverse frequency (model specification 6.4),
/// float32. inverse_frequencies (B, D/2) float32, one row per rotary base (dynamic NTK is per
/// request); tables (T) int32: which of them a row takes; positions (T) int32 -> two tensors (T,
/// D/2).
std::tuple<at::Tensor, at::Tensor> RopeTable(const at::Tensor& inverse_frequencies,
                                             const at::Tensor& tables, const at::Tensor& positions);

/// Rotates queries and keys (split halves, model specification 6.1) and stores keys and values.
/// qkv (T, G * (H/G + 2) * D): per key-value head its H/G query heads, then the key, then the value
/// (model specification 2.2). cos, sin (T, D/2). k_cache, v_cache (blocks, block_size, G, D)
/// activations. slots (T) int64: block * block_size + offset, where the row's key and value go.
/// -> rotated queries (T, H, D).
at::Tensor RopeKv(const at::Tensor& qkv, const at::Tensor& cos, const at::Tensor& sin,
                  at::Tensor& k_cache, at::Tensor& v_cache, const at::Tensor& slots);

/// Which rows belong to which sequence, and where its keys lie. All int32, on the device of the
/// queries.
struct SequenceTable {
  at::Tensor first_rows;    ///< (S); sequences ascending, together they cover all T rows
  at::Tensor row_counts;    ///< (S); zero is allowed
  at::Tensor positions;     ///< (S); of each sequence's first row = keys stored before this batch
  at::Tensor block_tables;  ///< (S, max blocks); physical blocks in order; entries past the end are
                            ///< not read
  int64_t longest = 0;      ///< rows of the longest sequence where the caller knows it, else 0
};

/// Causal attention over the paged cache, with scores divided by sqrt(D) and a float32 softmax that
/// never holds a whole row of scores. Row i of a sequence sees its keys 0 .. position + i, which
/// must be in the cache already (RopeKv). q (T, H, D), caches (blocks, block_size, G, D), H a
/// multiple of G -> (T, H, D).
at::Tensor PagedAttention(const at::Tensor& q, const at::Tensor& k_cache, const at::Tensor& v_cache,
                          const SequenceTable& sequences);

/// The same where `out` (T, H * D) lies, whose rows may lie apart.
void PagedAttentionInto_(at::Tensor& out, const at::Tensor& q, const at::Tensor& k_cache,
                         const at::Tensor& v_cache, const SequenceTable& sequences);

/// Attention of every row to every row of the same view, queries multiplied by D^-0.5 first
/// (model specification 3.1). q, k, v (n, N, H, D), each row dense; on CUDA rows may lie apart,
/// equally far in all three -> (n, N, H, D).
at::Tensor VisionAttention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v);

/// Pixels of a picture as planes: levels[channel][value]. rgb (h, w, 3) uint8, levels (3, 256)
/// float32 -> (3, h, w) float32.
at::Tensor NormalisePixels(const at::Tensor& rgb, const at::Tensor& levels);

// What follows is composed of ops above, and defined so. A back end may have one kernel for it.

/// y += x, and the LayerNorm of that y. y (..., C) float32, x of the same shape, weight and bias
/// (C)
/// -> (..., C).
at::Tensor AddLayerNorm(at::Tensor& y, const at::Tensor& x, const at::Tensor& weight,
                        const at::Tensor& bias, double eps = 1e-5);

/// The vision tower's residual stream before its first norm (model specification 3.1): a
/// convolution of p x p pixels with stride p, a row for the class before the patches, positions
/// added. views (n, 3, P, P) float32, patch_embedding (C, 3 p p), class_embedding (C) and
/// position_embedding (N + 1, C) float32 with N = (P / p)^2 -> (n, N + 1, C) float32.
struct ViewEmbedding {
  const at::Tensor& patches;
  const at::Tensor& classes;
  const at::Tensor& positions;
};
at::Tensor EmbedViews(const at::Tensor& views, const ViewEmbedding& embedding);

/// The rows that the projector sees of views that are not tiled: all but the class's, which is
/// row 0. features (n, N + 1, C) float32 -> (n N, C); on CUDA of type `stored`.
at::Tensor DropClass(const at::Tensor& features, at::ScalarType stored);

/// The rows that the projector sees of a tiled picture (model specification 3.5): 2x2 neighbours
/// side by side, rows of tokens ended by sub_gn, the global view (the first one) and the tiles
/// parted by glb_gn. features (1 + tile_rows tile_columns, g g + 1, C) float32 with an even g,
/// separators (4 C) float32 -> (S, 4 C); on CUDA of type `stored`.
struct Separators {
  const at::Tensor& sub_gn;
  const at::Tensor& glb_gn;
};
at::Tensor MergeViews(const at::Tensor& features, const Separators& separators, int64_t tile_rows,
                      int64_t tile_columns, at::ScalarType stored);

/// RmsNorm, the linear wqkv, RopeKv: from the residual stream to rotated queries (T, H, D). hidden
/// (T, C) float32; the rest as these functions have it.
struct QkvArguments {
  const at::Tensor& hidden;
  const at::Tensor& norm;
  double eps;
  const LinearWeight& wqkv;
  const at::Tensor& cos;
  const at::Tensor& sin;
  const at::Tensor& slots;
};
at::Tensor NormQkvRope(const QkvArguments& arguments, at::Tensor& k_cache, at::Tensor& v_cache);

/// silu(w1 x) * w3 x with x = RmsNorm(hidden). hidden (T, C) float32, w1 and w3 (F, C) -> (T, F),
/// whose rows may lie apart on CUDA.
at::Tensor NormGateUp(const at::Tensor& hidden, const at::Tensor& norm, double eps,
                      const LinearWeight& w1, const LinearWeight& w3);

/// The head: scores = LinearFloat(RmsNorm(hidden), output). hidden (R, C) float32, scores (R, V)
/// float32, output (V, C).
void NormScores_(at::Tensor& scores, const at::Tensor& hidden, const at::Tensor& norm, double eps,
                 const LinearWeight& output);

/// Of R rows with V scores each, on the device of the scores.
struct ChoiceTable {
  at::Tensor rules;  ///< (R, sizeof(ChoiceRule)) bytes
  at::Tensor seen;   ///< (R, ceil(V / 32)) int32: a bit for each id that the penalty applies to
  at::Tensor steps;  ///< (R) int64: numbers the draw
};

/// Ids by scores (R, V) float32 -> (R) int32; -1 where the scores must be looked at, because one is
/// not a finite number or because float32 rounding decides which id is drawn. Every other id is the
/// engine's. Marks the chosen ids as seen and counts the steps. Only on CUDA: elsewhere the engine
/// chooses.
at::Tensor ChooseIds(const at::Tensor& scores, ChoiceTable& choices);

/// cache[target[i]] = cache[source[i]] for i in order; cache (blocks, ...).
void CopyBlocks_(at::Tensor& cache, at::IntArrayRef source, at::IntArrayRef target);

}  // namespace xcomposer::ops
