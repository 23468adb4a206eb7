#include "pipeline/decode_steps.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>
#include <vector>

#include "model/batch_tensors.h"
#include "model/choice_table.h"
#include "pipeline/host_copy.h"

namespace xcomposer {
namespace {

constexpr int64_t kMostSequences = 32;  // as many rows as the products for few rows take
constexpr size_t kMostGraphs = 48;      // 6 counts of sequences, 8 widths of tables
constexpr int64_t kRuleBytes = sizeof(ops::ChoiceRule);

int64_t PowerOfTwoFrom(int64_t count) {
  return static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(std::max<int64_t>(1, count))));
}

DecodeShape ShapeOf(const Batch& batch) {
  size_t blocks = 1;
  for (const SequenceSlice& sequence : batch.sequences) {
    blocks = std::max(blocks, sequence.block_table.size());
  }
  return {.sequences = PowerOfTwoFrom(static_cast<int64_t>(batch.sequences.size())),
          .blocks = PowerOfTwoFrom(static_cast<int64_t>(blocks))};
}

/// Where a shape's tables lie in one piece of memory, so that one copy brings them all. In bytes.
struct TableLayout {
  TableLayout(const DecodeShape& shape, int64_t frequencies)
      : half(frequencies),
        ids(Place(4 * shape.sequences)),
        slots(Place(8 * shape.sequences)),
        inverse_frequencies(Place(4 * shape.sequences * half)),
        rope_tables(Place(4 * shape.sequences)),
        rope_positions(Place(4 * shape.sequences)),
        first_rows(Place(4 * shape.sequences)),
        row_counts(Place(4 * shape.sequences)),
        positions(Place(4 * shape.sequences)),
        block_tables(Place(4 * shape.sequences * shape.blocks)),
        rules(Place(kRuleBytes * shape.sequences)),
        steps(Place(8 * shape.sequences)) {}

  int64_t bytes = 0;
  int64_t half;
  int64_t ids;
  int64_t slots;
  int64_t inverse_frequencies;
  int64_t rope_tables;
  int64_t rope_positions;
  int64_t first_rows;
  int64_t row_counts;
  int64_t positions;
  int64_t block_tables;
  int64_t rules;
  int64_t steps;

 private:
  int64_t Place(int64_t size) {
    const int64_t at = bytes;
    bytes += (size + 31) / 32 * 32;  // kernels read up to a rule at a time
    return at;
  }
};

/// A table within such memory.
at::Tensor View(const at::Tensor& memory, int64_t at, at::ScalarType type, at::IntArrayRef shape) {
  const int64_t bytes =
      c10::multiply_integers(shape) * static_cast<int64_t>(c10::elementSize(type));
  return memory.narrow(0, at, bytes).view(type).view(shape);
}

void Put(std::byte* at, const at::Tensor& dense) {
  std::memcpy(at, dense.const_data_ptr(), dense.nbytes());
}

}  // namespace

struct DecodeSteps::Memory {
  DecodeShape shape;
  TableLayout layout;
  at::Tensor bytes;  // all tables
  at::Tensor ids;    // (S) int32
  BatchTables tables;
  ops::ChoiceTable choices;
  at::Tensor hidden;  // (S, C) float32: the input, then the layers' result
  at::Tensor scores;  // (S, V) float32
  at::Tensor chosen;  // (S) int32

  Memory(const Stage& stage, const DecodeShape& wanted)
      : shape(wanted), layout(wanted, stage.config().head_dim() / 2) {
    const int64_t rows = shape.sequences;
    const auto options = at::TensorOptions().device(stage.device());
    bytes = at::zeros({layout.bytes}, options.dtype(at::kByte));
    ids = View(bytes, layout.ids, at::kInt, {rows});
    tables.slots = View(bytes, layout.slots, at::kLong, {rows});
    tables.rope.inverse_frequencies =
        View(bytes, layout.inverse_frequencies, at::kFloat, {rows, layout.half});
    tables.rope.tables = View(bytes, layout.rope_tables, at::kInt, {rows});
    tables.rope.positions = View(bytes, layout.rope_positions, at::kInt, {rows});
    tables.sequences.first_rows = View(bytes, layout.first_rows, at::kInt, {rows});
    tables.sequences.row_counts = View(bytes, layout.row_counts, at::kInt, {rows});
    tables.sequences.positions = View(bytes, layout.positions, at::kInt, {rows});
    tables.sequences.block_tables =
        View(bytes, layout.block_tables, at::kInt, {rows, shape.blocks});
    tables.sequences.longest = 1;
    hidden = at::zeros({rows, stage.config().hidden_size}, options.dtype(at::kFloat));
    if (!stage.range().last) return;
    choices.rules = View(bytes, layout.rules, at::kByte, {rows, kRuleBytes});
    choices.steps = View(bytes, layout.steps, at::kLong, {rows});
    choices.seen = at::zeros({rows, SeenWords(stage.config().vocab_size)}, options.dtype(at::kInt));
  }

  /// The tables of a batch as they lie in `bytes`. Rows that are not in use have no slot, no
  /// position and no id.
  void Write(std::byte* to, const Batch& batch, const BatchTables& from) const {
    std::memset(to, 0, static_cast<size_t>(layout.bytes));
    const auto rows = static_cast<size_t>(shape.sequences);
    std::memset(to + layout.ids, -1, 4 * rows);
    std::memset(to + layout.slots, -1, 8 * rows);
    std::memset(to + layout.positions, -1, 4 * rows);
    std::memcpy(to + layout.ids, batch.ids.data(), 4 * batch.ids.size());
    Put(to + layout.slots, from.slots);
    Put(to + layout.inverse_frequencies, from.rope.inverse_frequencies);
    Put(to + layout.rope_tables, from.rope.tables);
    Put(to + layout.rope_positions, from.rope.positions);
    Put(to + layout.positions, from.sequences.positions);
    Put(to + layout.first_rows, from.sequences.first_rows);
    Put(to + layout.row_counts, from.sequences.row_counts);
    for (size_t s = 0; s < rows; ++s) {
      ops::ChoiceRule rule;
      if (s < batch.sequences.size()) {
        const SequenceSlice& sequence = batch.sequences[s];
        std::memcpy(to + layout.block_tables + 4 * s * static_cast<size_t>(shape.blocks),
                    sequence.block_table.data(), 4 * sequence.block_table.size());
        if (sequence.choice) {
          rule = RuleOf(*sequence.choice);
          std::memcpy(to + layout.steps + 8 * s, &sequence.choice->step, 8);
        }
      }
      std::memcpy(to + layout.rules + sizeof(rule) * s, &rule, sizeof(rule));
    }
  }
};

DecodeSteps::DecodeSteps(Stage& stage, GraphRecorder& recorder, const at::TensorOptions& host)
    : stage_(stage), host_(host), graphs_(recorder, kMostGraphs) {}

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

DecodeSteps::Memory& DecodeSteps::MemoryOf(const DecodeShape& shape) {
  std::unique_ptr<Memory>& memory = memory_[shape];
  if (memory == nullptr) {
    auto made = std::make_unique<Memory>(stage_, shape);
    if (stage_.range().last) made->scores = ScoresOf(shape.sequences);
    memory = std::move(made);  // complete: the device may have had no room for the scores
  }
  return *memory;
}

/// One for all widths of block tables: vocabularies are large.
at::Tensor& DecodeSteps::ScoresOf(int64_t sequences) {
  at::Tensor& scores = scores_[sequences];
  if (!scores.defined()) {
    scores = at::empty({sequences, stage_.config().vocab_size},
                       at::TensorOptions().dtype(at::kFloat).device(stage_.device()));
  }
  return scores;
}

/// Memory of the host is new for each step, so that nothing is written that a copy still reads.
void DecodeSteps::Upload(Memory& memory, const Batch& batch) const {
  const BatchTables tables = MakeBatchTables(stage_.config(), batch, stage_.kv_shape());
  const at::Tensor bytes = at::empty({memory.layout.bytes}, host_.dtype(at::kByte));
  memory.Write(static_cast<std::byte*>(bytes.mutable_data_ptr()), batch, tables);
  memory.bytes.copy_(bytes, /*non_blocking=*/true);
  // Where no penalty asks for them, marks of earlier steps do nothing.
  const auto penalised = [](const SequenceSlice& sequence) {
    return sequence.choice && !sequence.choice->seen.empty();
  };
  if (!stage_.range().last ||
      !std::any_of(batch.sequences.begin(), batch.sequences.end(), penalised)) {
    return;
  }
  const int64_t words = memory.choices.seen.size(1);
  at::Tensor seen = at::empty({batch.rows(), words}, host_.dtype(at::kInt));  // (S, words)
  auto* row = seen.mutable_data_ptr<int32_t>();
  std::memset(row, 0, seen.nbytes());
  for (const SequenceSlice& sequence : batch.sequences) {
    if (sequence.choice) MarkSeen(*sequence.choice, row);
    row += words;
  }
  memory.choices.seen.narrow(0, 0, batch.rows()).copy_(seen, /*non_blocking=*/true);
}

/// The same launches each time, and what they allocate stays until the next ones.
void DecodeSteps::Launch(Memory& memory) {
  if (stage_.range().first) memory.hidden = stage_.EmbedIds(memory.ids);
  stage_.RunLayers(memory.hidden, OnDevice(memory.tables));
  if (!stage_.range().last) return;
  stage_.ScoreRows(memory.scores, memory.hidden);
  memory.chosen = ops::ChooseIds(memory.scores, memory.choices);
}

DecodeSteps::Memory& DecodeSteps::Step(const at::Tensor& given, const Batch& batch) {
  Memory& memory = MemoryOf(ShapeOf(batch));
  if (!stage_.range().first) memory.hidden.narrow(0, 0, given.size(0)).copy_(given);
  Upload(memory, batch);
  stage_.CopyBlocks(batch);
  graphs_.Run(memory.shape, [this, &memory] { Launch(memory); });
  return memory;
}

at::Tensor DecodeSteps::Run(const at::Tensor& given, const Batch& batch) {
  const at::Tensor computed = Step(given, batch).hidden.narrow(0, 0, batch.rows());
  return at::empty(computed.sizes(), computed.options()).copy_(computed);
}

Logits DecodeSteps::Score(const at::Tensor& given, const Batch& batch) {
  const Memory& memory = Step(given, batch);
  std::vector<int64_t> wanted;  // rows are sequences
  for (int64_t row = 0; row < batch.rows(); ++row) {
    if (batch.all_logits || batch.sequences[static_cast<size_t>(row)].wants_logits) {
      wanted.push_back(row);
    }
  }
  Logits logits;
  logits.rows = static_cast<int64_t>(wanted.size());
  logits.vocab = stage_.config().vocab_size;
  if (wanted.empty()) return logits;
  if (WantsIdsOnly(batch)) {
    const at::Tensor ids = ToHost(memory.chosen, host_);
    for (const int64_t row : wanted) logits.chosen.push_back(ids.const_data_ptr<int32_t>()[row]);
    const auto& chosen = logits.chosen;
    if (std::none_of(chosen.begin(), chosen.end(), [](int32_t id) { return id < 0; })) {
      return logits;
    }
    logits.chosen.clear();
  }
  const at::Tensor scores = ToHost(memory.scores.narrow(0, 0, batch.rows()), host_);  // (S, V)
  for (const int64_t row : wanted) {
    const float* first = scores.const_data_ptr<float>() + row * logits.vocab;
    logits.values.insert(logits.values.end(), first, first + logits.vocab);
  }
  return logits;
}

}  // namespace xcomposer
