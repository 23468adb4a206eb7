#pragma once

#include <cstdint>
#include <string>

#include "config/kv_type.h"
#include "config/model_config.h"
#include "placement/workload.h"

/// Bytes read and operations done, from which times follow: a part takes as long as its bytes need
/// over the memory's bandwidth or its operations over the arithmetic rate, whichever is longer.
namespace xcomposer {

struct Work {
  double bytes = 0;
  double operations = 0;

  Work& operator+=(const Work& other) {
    bytes += other.bytes;
    operations += other.operations;
    return *this;
  }
  double Seconds(double bandwidth, double flops) const {
    const double by_memory = bytes / bandwidth;
    const double by_arithmetic = operations / flops;
    return by_memory > by_arithmetic ? by_memory : by_arithmetic;
  }
};

/// One new token for each of `sequences` sequences that are `context` long. PLoRA and the adapters
/// are not read for text rows. `kv`: how the keys and values lie that are read.
Work DecodeWorkOfLayer(const ModelConfig& config, const Workload& workload, int64_t sequences,
                       KvType kv);
Work DecodeWorkOfEmbeddings(const ModelConfig& config, const Workload& workload, int64_t sequences);
Work DecodeWorkOfHead(const ModelConfig& config, const Workload& workload, int64_t sequences);

/// Rows of the prompt that predictions are about: the pictures and 64 rows of text.
int64_t PromptRows(const Workload& workload);

/// The rows of a prompt.
struct PromptShape {
  int64_t rows = 0;          ///< all of them
  int64_t picture_rows = 0;  ///< of them
};

/// The steps in which a prompt goes through the stages, and the hidden rows handed over with each.
struct PromptChunks {
  double count = 1;
  double bytes = 0;
};
PromptChunks ChunksOfPrompt(const ModelConfig& config, const Workload& workload);

/// The whole prompt of one sequence through one layer. Weights are read once per chunk. Without a
/// shape: the prompt that predictions are about.
Work PrefillWorkOfLayer(const ModelConfig& config, const Workload& workload);
Work PrefillWorkOfLayer(const ModelConfig& config, const Workload& workload,
                        const PromptShape& prompt);

/// One picture through tower and projector.
Work PictureWork(const ModelConfig& config, const Workload& workload);

}  // namespace xcomposer
