#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "checkpoint/convert.h"
#include "config/model_config.h"
#include "pipeline/checkpoint_weights.h"

namespace xcomposer {

/// A tensor that CheckpointWeights gives by its name.
struct PlainTensor {
  std::string name;
  std::vector<int64_t> shape;
  const TensorEntry* entry = nullptr;  ///< null for a linear in 12 bits
};

/// Those of a checkpoint in its order, linears in 12 bits where their words stand.
std::vector<PlainTensor> PlainTensorsOf(const Checkpoint& checkpoint, const ModelConfig& config);

/// The tensor as it is stored, a linear in 12 bits as bfloat16. Both must live until it is written.
TensorSource PlainSource(const Checkpoint& checkpoint, CheckpointWeights& weights,
                         const PlainTensor& tensor);

/// Hands a dense tensor on the CPU to `sink`.
void WriteBytes(const at::Tensor& tensor, const ByteSink& sink);

}  // namespace xcomposer
