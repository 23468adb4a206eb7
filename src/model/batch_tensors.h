#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <vector>

#include "batch/batch.h"
#include "config/model_config.h"
#include "model/adapter_rooms.h"
#include "model/kv_cache.h"
#include "model/rope_rows.h"
#include "ops/ops.h"

namespace xcomposer {

/// The rows to which something applies, as ops::LinearAddRows_ takes them: begin0, end0, begin1,
/// end1, ...
using RowSpans = std::vector<int64_t>;

/// What changes from step to step in the layers' input, beside the hidden rows.
struct BatchTables {
  RopeRows rope;
  at::Tensor slots;              ///< (T) int64: where each row's key and value go in the cache
  ops::SequenceTable sequences;  ///< (S) each
};

/// On the host. The batch must have been checked (its block tables reach every position, spans
/// ascend).
BatchTables MakeBatchTables(const ModelConfig& config, const Batch& batch, const KvShape& kv);

/// What the layers need of a batch, made once per stage and step.
struct BatchTensors {
  at::Tensor cos;                ///< (T, D/2)
  at::Tensor sin;                ///< (T, D/2)
  at::Tensor slots;              ///< (T) int64: where each row's key and value go in the cache
  ops::SequenceTable sequences;  ///< (S) each
  RowSpans picture_rows;         ///< PLoRA
  RowSpans web_rows;             ///< of sequences with Adapter::kWeb
  RowSpans write_rows;           ///< of sequences with Adapter::kWrite
  /// Where there are pictures and PLoRA's factors lie beside the weights (PloraLinear).
  std::optional<AdapterRooms> rooms = std::nullopt;

  /// Whether every row is multiplied with the base weights alone.
  bool base_only() const { return picture_rows.empty() && web_rows.empty() && write_rows.empty(); }
};

/// What the layers need, of tables that lie on the device already: a batch of base rows only, not
/// under linear scaling.
BatchTensors OnDevice(const BatchTables& tables);

/// As MakeBatchTables, on `device`.
BatchTensors MakeBatchTensors(const ModelConfig& config, const Batch& batch, const KvShape& kv,
                              at::Device device);

}  // namespace xcomposer
