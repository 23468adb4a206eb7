#include "model/batch_tensors.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

namespace xcomposer {
namespace {

void AddSpan(RowSpans& spans, int64_t begin, int64_t end) {
  if (begin == end) return;
  if (!spans.empty() && spans.back() == begin) {
    spans.back() = end;  // neighbours become one, so that a kernel sees long runs
  } else {
    spans.insert(spans.end(), {begin, end});
  }
}

at::Tensor Slots(const Batch& batch, int64_t block_size) {
  at::Tensor slots = at::empty({batch.rows()}, at::kLong);  // (T)
  for (const SequenceSlice& sequence : batch.sequences) {
    for (int64_t i = 0; i < sequence.row_count; ++i) {
      const int64_t position = sequence.position + i;
      const int64_t block = sequence.block_table[static_cast<size_t>(position / block_size)];
      slots.data_ptr<int64_t>()[sequence.first_row + i] =
          block * block_size + position % block_size;
    }
  }
  return slots;
}

ops::SequenceTable Sequences(const Batch& batch) {
  const auto count = static_cast<int64_t>(batch.sequences.size());
  size_t blocks = 1;
  for (const SequenceSlice& sequence : batch.sequences) {
    blocks = std::max(blocks, sequence.block_table.size());
  }
  at::Tensor first_rows = at::empty({count}, at::kInt);  // (S)
  at::Tensor row_counts = at::empty({count}, at::kInt);  // (S)
  at::Tensor positions = at::empty({count}, at::kInt);   // (S)
  at::Tensor tables =
      at::zeros({count, static_cast<int64_t>(blocks)}, at::kInt);  // (S, max blocks)
  int64_t longest = 0;
  for (int64_t s = 0; s < count; ++s) {
    const SequenceSlice& sequence = batch.sequences[static_cast<size_t>(s)];
    longest = std::max(longest, sequence.row_count);
    first_rows.data_ptr<int32_t>()[s] = static_cast<int32_t>(sequence.first_row);
    row_counts.data_ptr<int32_t>()[s] = static_cast<int32_t>(sequence.row_count);
    positions.data_ptr<int32_t>()[s] = static_cast<int32_t>(sequence.position);
    std::copy(sequence.block_table.begin(), sequence.block_table.end(),
              tables.data_ptr<int32_t>() + s * static_cast<int64_t>(blocks));
  }
  return {first_rows, row_counts, positions, tables, longest};
}

ops::SequenceTable CopyTo(const ops::SequenceTable& table, at::Device device) {
  return {table.first_rows.to(device), table.row_counts.to(device), table.positions.to(device),
          table.block_tables.to(device), table.longest};
}

}  // namespace

BatchTables MakeBatchTables(const ModelConfig& config, const Batch& batch, const KvShape& kv) {
  return {RopeRowsOf(config, batch), Slots(batch, kv.block_size), Sequences(batch)};
}

BatchTensors OnDevice(const BatchTables& tables) {
  BatchTensors tensors;
  std::tie(tensors.cos, tensors.sin) =
      ops::RopeTable(tables.rope.inverse_frequencies, tables.rope.tables, tables.rope.positions);
  tensors.slots = tables.slots;
  tensors.sequences = tables.sequences;
  return tensors;
}

BatchTensors MakeBatchTensors(const ModelConfig& config, const Batch& batch, const KvShape& kv,
                              at::Device device) {
  const BatchTables tables = MakeBatchTables(config, batch, kv);
  BatchTensors tensors;
  if (ScalesLinearly(config)) {
    const auto [cos, sin] = LinearScaledTable(config, tables.rope);
    tensors.cos = cos.to(device);
    tensors.sin = sin.to(device);
  } else {
    std::tie(tensors.cos, tensors.sin) =
        ops::RopeTable(tables.rope.inverse_frequencies.to(device), tables.rope.tables.to(device),
                       tables.rope.positions.to(device));
  }
  tensors.slots = tables.slots.to(device);
  tensors.sequences = CopyTo(tables.sequences, device);
  for (const FeatureSpan& span : batch.features) {
    AddSpan(tensors.picture_rows, span.first_row, span.first_row + span.row_count);
  }
  for (const SequenceSlice& sequence : batch.sequences) {
    const int64_t end = sequence.first_row + sequence.row_count;
    if (sequence.adapter == Adapter::kWeb) AddSpan(tensors.web_rows, sequence.first_row, end);
    if (sequence.adapter == Adapter::kWrite) AddSpan(tensors.write_rows, sequence.first_row, end);
  }
  return tensors;
}

}  // namespace xcomposer
