#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <bit>
#include <tuple>

#include "base/check.h"
#include "kernels/cuda/attention_decode.h"
#include "kernels/cuda/attention_prefill.h"
#include "kernels/cuda/rope_kv.h"
#include "ops/arguments.h"
#include "ops/cuda_arguments.h"
#include "ops/cuda_library.h"
#include "ops/cuda_resources.h"

// What the tables of a batch say is read on the device and not checked here: they come from checked
// batches, and looking at them would wait for the GPU.
namespace xcomposer::ops {
namespace {

using at::Tensor;

constexpr int64_t kMostQueriesPerKey = 8;  // of the decoding kernel

int64_t PowerOfTwoFrom(int64_t count) {
  return static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(count)));
}

cuda::HeadShape CudaShapeOf(const HeadShape& shape) {
  return {.heads = shape.heads, .kv_heads = shape.kv_heads, .head_dim = shape.head_dim};
}

std::tuple<Tensor, Tensor> RopeTable(const Tensor& inverse_frequencies, const Tensor& tables,
                                     const Tensor& positions) {
  const auto shape = CheckRopeTable(inverse_frequencies, tables, positions);
  Tensor cos = at::empty(shape, inverse_frequencies.options());  // (T, D/2)
  Tensor sin = at::empty(shape, inverse_frequencies.options());  // (T, D/2)
  Launched("rope_table",
           cuda::RopeTable({.inverse_frequencies = inverse_frequencies.const_data_ptr<float>(),
                            .tables = tables.const_data_ptr<int32_t>(),
                            .positions = positions.const_data_ptr<int32_t>(),
                            .cos = cos.mutable_data_ptr<float>(),
                            .sin = sin.mutable_data_ptr<float>(),
                            .rows = shape[0],
                            .half = shape[1]},
                           CurrentCuda().context()));
  return {cos, sin};
}

Tensor RopeKv(const Tensor& qkv, const Tensor& cos, const Tensor& sin, Tensor& k_cache,
              Tensor& v_cache, const Tensor& slots) {
  const char* op = "rope_kv";
  const HeadShape shape = CheckRopeKv(qkv, cos, sin, k_cache, v_cache, slots);
  RequireType(op, qkv.scalar_type(), {&k_cache, &v_cache});
  RequireType(op, at::kFloat, {&cos, &sin});
  const Tensor dense = qkv.contiguous();
  Tensor q = at::empty({shape.rows, shape.heads, shape.head_dim}, qkv.options());  // (T, H, D)
  Launched(op, cuda::RopeKv({.qkv = dense.const_data_ptr(),
                             .shape = CudaShapeOf(shape),
                             .cos = cos.const_data_ptr<float>(),
                             .sin = sin.const_data_ptr<float>(),
                             .slots = slots.const_data_ptr<int64_t>(),
                             .q = q.mutable_data_ptr(),
                             .k_cache = k_cache.mutable_data_ptr(),
                             .v_cache = v_cache.mutable_data_ptr(),
                             .rows = shape.rows,
                             .format = CudaFormatOf(op, qkv)},
                            CurrentCuda().context()));
  return q;
}

/// One row for every sequence: a step of decoding.
cudaError_t AttendDecoding(const Tensor& q, const cuda::PagedCache& cache, const HeadShape& shape,
                           const Tensor& positions, Tensor& out) {
  CudaResources& cuda = CurrentCuda();
  // In how many parts the keys are taken decides the bits. It follows from rounded sizes, so that
  // it is the same in a captured graph, whose tables are as wide as it may need.
  const int64_t splits =
      cuda::DecodeSplits(PowerOfTwoFrom(shape.rows), shape.kv_heads,
                         PowerOfTwoFrom(cache.table_stride) * cache.block_size, cuda.context());
  const cuda::HeadShape heads = CudaShapeOf(shape);
  const Tensor partial = at::empty({cuda::DecodePartialFloats(heads, shape.rows, splits)},
                                   q.options().dtype(at::kFloat));
  return cuda::DecodeAttention({.q = q.const_data_ptr(),
                                .cache = cache,
                                .positions = positions.const_data_ptr<int32_t>(),
                                .shape = heads,
                                .sequences = shape.rows,
                                .splits = splits,
                                .partial = partial.mutable_data_ptr<float>(),
                                .counters = cuda.Counters(shape.rows * shape.kv_heads),
                                .out = out.mutable_data_ptr(),
                                .format = CudaFormatOf("paged_attention", q)},
                               cuda.context());
}

void PagedAttentionInto(Tensor& out, const Tensor& q, const Tensor& k_cache, const Tensor& v_cache,
                        const Tensor& first_rows, const Tensor& row_counts, const Tensor& positions,
                        const Tensor& block_tables, int64_t longest) {
  const char* op = "paged_attention";
  const HeadShape shape =
      CheckPagedAttention(q, k_cache, v_cache, first_rows, row_counts, positions, block_tables);
  CheckRowsInto(op, out, {shape.rows, shape.heads * shape.head_dim});
  RequireType(op, q.scalar_type(), {&k_cache, &v_cache, &out});
  if (shape.rows == 0) return;
  const int64_t sequences = first_rows.size(0);
  const cuda::PagedCache cache{.keys = k_cache.const_data_ptr(),
                               .values = v_cache.const_data_ptr(),
                               .block_tables = block_tables.const_data_ptr<int32_t>(),
                               .table_stride = block_tables.size(1),
                               .block_size = k_cache.size(1)};
  const bool decoding = longest == 1 && sequences == shape.rows && out.is_contiguous() &&
                        shape.heads / shape.kv_heads <= kMostQueriesPerKey;
  if (decoding) {
    Launched(op, AttendDecoding(q, cache, shape, positions, out));
    return;
  }
  Launched(op, cuda::PrefillAttention({.q = q.const_data_ptr(),
                                       .cache = cache,
                                       .first_rows = first_rows.const_data_ptr<int32_t>(),
                                       .row_counts = row_counts.const_data_ptr<int32_t>(),
                                       .positions = positions.const_data_ptr<int32_t>(),
                                       .sequences = sequences,
                                       .rows = shape.rows,
                                       .shape = CudaShapeOf(shape),
                                       .out = out.mutable_data_ptr(),
                                       .out_stride = RowStride(out),
                                       .format = CudaFormatOf(op, q)},
                                      CurrentCuda().context()));
}

Tensor PagedAttention(const Tensor& q, const Tensor& k_cache, const Tensor& v_cache,
                      const Tensor& first_rows, const Tensor& row_counts, const Tensor& positions,
                      const Tensor& block_tables, int64_t longest) {
  Tensor out = at::empty(q.sizes(), q.options());  // (T, H, D)
  Tensor rows = out.flatten(1);
  PagedAttentionInto(rows, q, k_cache, v_cache, first_rows, row_counts, positions, block_tables,
                     longest);
  return out;
}

Tensor VisionAttention(const Tensor& q, const Tensor& k, const Tensor& v) {
  const char* op = "vision_attention";
  const int64_t stride = CheckVisionAttention(q, k, v);
  RequireType(op, q.scalar_type(), {&k, &v});
  Tensor out = at::empty(q.sizes(), q.options());  // (n, N, H, D)
  Launched(op, cuda::VisionAttention({.q = q.const_data_ptr(),
                                      .k = k.const_data_ptr(),
                                      .v = v.const_data_ptr(),
                                      .stride = stride,
                                      .out = out.mutable_data_ptr(),
                                      .views = q.size(0),
                                      .rows = q.size(1),
                                      .heads = q.size(2),
                                      .head_dim = q.size(3),
                                      .format = CudaFormatOf(op, q)},
                                     CurrentCuda().context()));
  return out;
}

}  // namespace

void RegisterCudaAttention(torch::Library& m) {
  m.impl("rope_table", &RopeTable);
  m.impl("rope_kv", &RopeKv);
  m.impl("paged_attention", &PagedAttention);
  m.impl("paged_attention_into_", &PagedAttentionInto);
  m.impl("vision_attention", &VisionAttention);
}

}  // namespace xcomposer::ops
