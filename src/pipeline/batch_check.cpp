#include "pipeline/batch_check.h"

#include <cmath>

#include "base/check.h"

namespace xcomposer {
namespace {

void CheckSequence(const SequenceSlice& sequence, const ExecutorLimits& limits) {
  Check(sequence.row_count > 0 && sequence.position >= 0, "a slice of ", sequence.row_count,
        " rows at position ", sequence.position);
  Check(std::isfinite(sequence.rope_base) && sequence.rope_base >= 1.0, "rope base ",
        sequence.rope_base);
  const auto table = static_cast<int64_t>(sequence.block_table.size());
  Check(sequence.position + sequence.row_count <= table * limits.block_size, "a block table of ",
        table, " blocks for ", sequence.position + sequence.row_count, " positions");
  for (const int32_t block : sequence.block_table) {
    Check(block >= 0 && block < limits.kv_blocks, "block ", block, " of ", limits.kv_blocks);
  }
}

void CheckChoice(const IdChoice& choice, const ExecutorLimits& limits) {
  Check(choice.IsSound(), "an id is to be chosen with penalty ", choice.repetition_penalty,
        ", temperature ", choice.temperature, ", top_k ", choice.top_k, " and without the last ",
        choice.dropped_mass);
  for (const int32_t id : choice.seen) {
    Check(id >= 0 && id < limits.vocab, "id ", id, " was seen, of a vocabulary of ", limits.vocab);
  }
}

void CheckAdapter(Adapter adapter, const ModelConfig& config) {
  const bool there =
      adapter == Adapter::kBase || (adapter == Adapter::kWeb && config.adapters.web > 0) ||
      (adapter == Adapter::kWrite && config.adapters.sft > 0 && config.adapters.dpo > 0);
  Require(there, ErrorKind::kRequest, "the request asks for the ",
          adapter == Adapter::kWeb ? "web" : "write", " adapter, which this checkpoint of kind ",
          ToString(config.kind), " does not have");
}

/// Marks the rows that come from pictures.
std::vector<bool> PictureRows(
    const Batch& batch, const std::function<std::optional<int64_t>(FeatureHandle)>& feature_rows) {
  std::vector<bool> picture(batch.ids.size(), false);
  int64_t last = 0;
  for (const FeatureSpan& span : batch.features) {
    Check(span.row_count > 0 && span.first_row >= last &&
              span.row_count <= batch.rows() - span.first_row,
          "a picture span of ", span.row_count, " rows at row ", span.first_row);
    const auto rows = feature_rows(span.feature);
    Check(rows.has_value(), "unknown picture features ", span.feature);
    Check(span.feature_row >= 0 && span.row_count <= *rows - span.feature_row, "rows ",
          span.feature_row, " and on of picture features that have ", *rows);
    last = span.first_row + span.row_count;
    std::fill(picture.begin() + span.first_row, picture.begin() + last, true);
  }
  return picture;
}

}  // namespace

void CheckBatch(const Batch& batch, const ModelConfig& config, const ExecutorLimits& limits,
                const std::function<std::optional<int64_t>(FeatureHandle)>& feature_rows) {
  Check(batch.rows() > 0 && batch.rows() <= limits.max_batch_rows, "a batch of ", batch.rows(),
        " rows, the limit is ", limits.max_batch_rows);
  int64_t row = 0;
  for (const SequenceSlice& sequence : batch.sequences) {
    Check(sequence.first_row == row, "a slice starts at row ", sequence.first_row, ", expected ",
          row);
    CheckSequence(sequence, limits);
    if (sequence.choice) CheckChoice(*sequence.choice, limits);
    CheckAdapter(sequence.adapter, config);
    row += sequence.row_count;
  }
  Check(row == batch.rows(), "sequences own ", row, " of ", batch.rows(), " rows");
  for (const BlockCopy& copy : batch.copies) {
    Check(copy.from >= 0 && copy.from < limits.kv_blocks && copy.to >= 0 &&
              copy.to < limits.kv_blocks,
          "a copy from block ", copy.from, " to ", copy.to, " of ", limits.kv_blocks);
  }
  const std::vector<bool> picture = PictureRows(batch, feature_rows);
  for (size_t i = 0; i < batch.ids.size(); ++i) {
    Require(picture[i] || (batch.ids[i] >= 0 && batch.ids[i] < config.vocab_size),
            ErrorKind::kRequest, "the token id ", batch.ids[i], " is outside the vocabulary of ",
            config.vocab_size);
  }
}

}  // namespace xcomposer
