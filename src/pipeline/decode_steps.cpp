#include "pipeline/decode_steps.h"

#include <ATen/ops/zeros.h>

#include <algorithm>
#include <bit>
#include <vector>

#include "model/batch_tensors.h"

namespace xcomposer {
namespace {

constexpr int64_t kMostSequences = 32;  // as many rows as the products for few rows take
constexpr size_t kMostGraphs = 48;      // 6 counts of sequences, 8 widths of tables

int64_t PowerOfTwoFrom(int64_t count) {
  return static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(std::max<int64_t>(1, count))));
}

DecodeShape ShapeOf(const BatchTables& tables) {
  return {.sequences = PowerOfTwoFrom(tables.sequences.first_rows.size(0)),
          .blocks = PowerOfTwoFrom(tables.sequences.block_tables.size(1))};
}

/// Into the corner of a larger tensor.
void Put(const at::Tensor& to, const at::Tensor& from) {
  at::Tensor corner = to.narrow(0, 0, from.size(0));
  if (from.dim() == 2) corner = corner.narrow(1, 0, from.size(1));
  corner.copy_(from);
}

/// The tables of a shape as views into one piece of memory, so that one copy brings them all.
class PackedTables {
 public:
  PackedTables(const Stage& stage, const DecodeShape& shape, at::Device device) {
    const int64_t rows = shape.sequences;
    const int64_t half = stage.config().head_dim() / 2;
    const int64_t bytes = rows * (8 + 4 * half + 5 * 4 + 4 * shape.blocks) + kParts * kAlignment;
    bytes_ = at::zeros({bytes}, at::TensorOptions().dtype(at::kByte).device(device));
    tables_.slots = Next(at::kLong, {rows});
    tables_.rope.inverse_frequencies = Next(at::kFloat, {rows, half});
    tables_.rope.tables = Next(at::kInt, {rows});
    tables_.rope.positions = Next(at::kInt, {rows});
    tables_.sequences.first_rows = Next(at::kInt, {rows});
    tables_.sequences.row_counts = Next(at::kInt, {rows});
    tables_.sequences.positions = Next(at::kInt, {rows});
    tables_.sequences.block_tables = Next(at::kInt, {rows, shape.blocks});
    tables_.sequences.longest = 1;
  }

  const BatchTables& tables() const { return tables_; }
  void CopyFrom(const PackedTables& other) { bytes_.copy_(other.bytes_); }

 private:
  static constexpr int64_t kParts = 8;
  static constexpr int64_t kAlignment = 16;

  at::Tensor Next(at::ScalarType type, at::IntArrayRef shape) {
    const int64_t bytes =
        c10::multiply_integers(shape) * static_cast<int64_t>(c10::elementSize(type));
    const at::Tensor part = bytes_.narrow(0, used_, bytes);
    used_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
    return part.view(type).view(shape);
  }

  at::Tensor bytes_;
  int64_t used_ = 0;
  BatchTables tables_;
};

}  // namespace

struct DecodeSteps::Memory {
  at::Tensor hidden;  // (S, C) float32
  PackedTables host;
  PackedTables device;

  Memory(const Stage& stage, const DecodeShape& shape)
      : hidden(at::zeros({shape.sequences, stage.config().hidden_size},
                         at::TensorOptions().dtype(at::kFloat).device(stage.device()))),
        host(stage, shape, at::kCPU),
        device(stage, shape, stage.device()) {}

  void Write(const at::Tensor& rows, const BatchTables& from) {
    hidden.narrow(0, 0, rows.size(0)).copy_(rows);
    const BatchTables& to = host.tables();
    to.slots.fill_(-1);  // rows that are not in use
    to.sequences.positions.fill_(-1);
    Put(to.slots, from.slots);
    Put(to.rope.inverse_frequencies, from.rope.inverse_frequencies);
    Put(to.rope.tables, from.rope.tables);
    Put(to.rope.positions, from.rope.positions);
    Put(to.sequences.positions, from.sequences.positions);
    Put(to.sequences.block_tables, from.sequences.block_tables);
    device.CopyFrom(host);
  }
};

DecodeSteps::DecodeSteps(Stage& stage, GraphRecorder& recorder)
    : stage_(stage), graphs_(recorder, kMostGraphs) {}

DecodeSteps::~DecodeSteps() = default;

bool DecodeSteps::Takes(const Batch& batch) const {
  const auto count = static_cast<int64_t>(batch.sequences.size());
  if (count == 0 || count > kMostSequences || batch.rows() != count || !batch.features.empty() ||
      ScalesLinearly(stage_.config())) {
    return false;
  }
  return std::all_of(batch.sequences.begin(), batch.sequences.end(),
                     [](const SequenceSlice& sequence) {
                       return sequence.row_count == 1 && sequence.adapter == Adapter::kBase;
                     });
}

void DecodeSteps::Run(at::Tensor& hidden, const Batch& batch) {
  const BatchTables tables = MakeBatchTables(stage_.config(), batch, stage_.kv_shape());
  const DecodeShape shape = ShapeOf(tables);
  Memory& memory = MemoryOf(shape);
  memory.Write(hidden, tables);
  stage_.CopyBlocks(batch);
  graphs_.Run(shape, [&] { stage_.RunLayers(memory.hidden, OnDevice(memory.device.tables())); });
  hidden.copy_(memory.hidden.narrow(0, 0, hidden.size(0)));
}

DecodeSteps::Memory& DecodeSteps::MemoryOf(const DecodeShape& shape) {
  std::unique_ptr<Memory>& memory = memory_[shape];
  if (memory == nullptr) memory = std::make_unique<Memory>(stage_, shape);
  return *memory;
}

}  // namespace xcomposer
