#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <tuple>
#include <vector>

#include "kernels/cpu/attention.h"
#include "kernels/cpu/rope.h"
#include "ops/arguments.h"
#include "ops/cpu_context.h"
#include "ops/step_memory.h"

namespace xcomposer::ops {
namespace {

using at::Tensor;

cpu::KvFormat FormatOf(const Tensor& cache) {
  return cache.scalar_type() == at::kChar ? cpu::KvFormat::kInt8 : cpu::KvFormat::kFloat32;
}

std::tuple<Tensor, Tensor> RopeTable(const Tensor& inverse_frequencies, const Tensor& tables,
                                     const Tensor& positions) {
  const auto shape = CheckRopeTable(inverse_frequencies, tables, positions);
  const int32_t* table = tables.const_data_ptr<int32_t>();
  for (int64_t row = 0; row < shape[0]; ++row) {
    Check(table[row] >= 0 && table[row] < inverse_frequencies.size(0), "rope_table: row ", row,
          " takes table ", table[row], " of ", inverse_frequencies.size(0));
  }
  Tensor cos = at::empty(shape, inverse_frequencies.options());  // (T, D/2)
  Tensor sin = at::empty(shape, inverse_frequencies.options());  // (T, D/2)
  cpu::RopeTable({.inverse_frequencies = inverse_frequencies.const_data_ptr<float>(),
                  .tables = table,
                  .positions = positions.const_data_ptr<int32_t>(),
                  .cos = cos.mutable_data_ptr<float>(),
                  .sin = sin.mutable_data_ptr<float>(),
                  .rows = shape[0],
                  .half = shape[1]});
  return {cos, sin};
}

Tensor RopeKv(const Tensor& qkv, const Tensor& cos, const Tensor& sin, Tensor& k_cache,
              Tensor& v_cache, const Tensor& slots) {
  const HeadShape shape = CheckRopeKv(qkv, cos, sin, k_cache, v_cache, slots);
  const int64_t* slot = slots.const_data_ptr<int64_t>();
  const int64_t slot_count = k_cache.size(0) * k_cache.size(1);
  for (int64_t row = 0; row < shape.rows; ++row) {
    Check(slot[row] >= 0 && slot[row] < slot_count, "rope_kv: slot ", slot[row], " of row ", row,
          " is outside of a cache of ", slot_count);
  }
  Tensor q = EmptyResult({shape.rows, shape.heads, shape.head_dim}, qkv.options());  // (T, H, D)
  cpu::RopeKv({.qkv = qkv.const_data_ptr<float>(),
               .qkv_stride = qkv.stride(0),
               .rows = shape.rows,
               .heads = shape.heads,
               .kv_heads = shape.kv_heads,
               .head_dim = shape.head_dim,
               .cos = cos.const_data_ptr<float>(),
               .sin = sin.const_data_ptr<float>(),
               .slots = slot,
               .q = q.mutable_data_ptr<float>(),
               .k_cache = k_cache.mutable_data_ptr(),
               .v_cache = v_cache.mutable_data_ptr(),
               .format = FormatOf(k_cache)},
              CurrentContext());
  return q;
}

struct Cache {
  int64_t blocks;
  int64_t block_size;
};

/// Reads the table of sequences and makes sure that the kernel will stay inside of all arrays.
std::vector<cpu::AttentionSequence> Sequences(const Tensor& first_rows, const Tensor& row_counts,
                                              const Tensor& positions, const Tensor& block_tables,
                                              const Cache& cache, int64_t rows) {
  std::vector<cpu::AttentionSequence> sequences;
  const int64_t width = block_tables.size(1);
  int64_t covered = 0;
  for (int64_t s = 0; s < first_rows.size(0); ++s) {
    const cpu::AttentionSequence sequence{
        .first_row = first_rows.const_data_ptr<int32_t>()[s],
        .row_count = row_counts.const_data_ptr<int32_t>()[s],
        .position = positions.const_data_ptr<int32_t>()[s],
        .block_table = block_tables.const_data_ptr<int32_t>() + s * width};
    Check(sequence.first_row == covered && sequence.row_count >= 0 && sequence.position >= 0,
          "paged_attention: sequence ", s, " has first row ", sequence.first_row, " (expected ",
          covered, "), ", sequence.row_count, " rows at position ", sequence.position);
    covered += sequence.row_count;
    const int64_t keys = sequence.row_count == 0 ? 0 : sequence.position + sequence.row_count;
    const int64_t used = (keys + cache.block_size - 1) / cache.block_size;
    Check(used <= width, "paged_attention: sequence ", s, " needs ", used,
          " blocks, its table has ", width);
    for (int64_t i = 0; i < used; ++i) {
      Check(sequence.block_table[i] >= 0 && sequence.block_table[i] < cache.blocks,
            "paged_attention: block ", sequence.block_table[i], " of sequence ", s,
            " is outside of a cache of ", cache.blocks);
    }
    sequences.push_back(sequence);
  }
  Check(covered == rows, "paged_attention: the sequences cover ", covered, " of ", rows, " rows");
  return sequences;
}

Tensor PagedAttention(const Tensor& q, const Tensor& k_cache, const Tensor& v_cache,
                      const Tensor& first_rows, const Tensor& row_counts, const Tensor& positions,
                      const Tensor& block_tables, int64_t) {
  const HeadShape shape =
      CheckPagedAttention(q, k_cache, v_cache, first_rows, row_counts, positions, block_tables);
  const auto sequences =
      Sequences(first_rows, row_counts, positions, block_tables,
                {.blocks = k_cache.size(0), .block_size = k_cache.size(1)}, shape.rows);
  Tensor out = EmptyResult(q.sizes(), q.options());  // (T, H, D)
  cpu::PagedAttention({.q = q.const_data_ptr<float>(),
                       .out = out.mutable_data_ptr<float>(),
                       .heads = shape.heads,
                       .kv_heads = shape.kv_heads,
                       .head_dim = shape.head_dim,
                       .k_cache = k_cache.const_data_ptr(),
                       .v_cache = v_cache.const_data_ptr(),
                       .format = FormatOf(k_cache),
                       .block_size = k_cache.size(1),
                       .sequences = sequences.data(),
                       .sequence_count = static_cast<int64_t>(sequences.size())},
                      CurrentContext());
  return out;
}

Tensor VisionAttention(const Tensor& q, const Tensor& k, const Tensor& v) {
  CheckVisionAttention(q, k, v);
  Tensor out = EmptyResult(q.sizes(), q.options());  // (n, N, H, D)
  cpu::VisionAttention({.q = q.const_data_ptr<float>(),
                        .k = k.const_data_ptr<float>(),
                        .v = v.const_data_ptr<float>(),
                        .out = out.mutable_data_ptr<float>(),
                        .views = q.size(0),
                        .rows = q.size(1),
                        .heads = q.size(2),
                        .head_dim = q.size(3)},
                       CurrentContext());
  return out;
}

}  // namespace

TORCH_LIBRARY_IMPL(xcomposer, CPU, m) {
  m.impl("rope_table", &RopeTable);
  m.impl("rope_kv", &RopeKv);
  m.impl("paged_attention", &PagedAttention);
  m.impl("vision_attention", &VisionAttention);
}

}  // namespace xcomposer::ops
