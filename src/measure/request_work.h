#pragma once

#include <cstdint>

#include "config/model_config.h"
#include "placement/time_formula.h"
#include "placement/workload.h"

/// What a request must read and compute, by the formulas that placement predicts times with
/// (docs/placement.md). Whole model, one sequence.
namespace xcomposer::measure {

/// How the model is kept.
struct Storage {
  WeightType weights = WeightType::kBFloat16;
  KvType kv = KvType::kFloat32;
  int64_t prefill_chunk = kPrefillChunk;  ///< rows of a prefill step
};

/// A prompt through all layers, and the scores of its last row.
Work PrefillWork(const ModelConfig& config, const Storage& storage, const PromptShape& prompt);

/// `tokens` steps after `context` positions: the first of them has context + 1 keys.
Work DecodeWork(const ModelConfig& config, const Storage& storage, int64_t context, int64_t tokens);

/// One picture through tower and projector.
Work VisionWork(const ModelConfig& config, const Storage& storage, const PictureShape& picture);

}  // namespace xcomposer::measure
