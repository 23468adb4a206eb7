#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "checkpoint/checkpoint.h"
#include "config/model_config.h"
#include "model/weight_scope.h"
#include "pipeline/storage_cast.h"

namespace xcomposer {

/// The headers of a checkpoint in the form that the config room reads.
WeightHeaders HeadersOf(const Checkpoint& checkpoint);

/// How far loading has come.
struct LoadStep {
  int64_t bytes_done = 0;
  int64_t bytes_total = 0;
  std::string tensor;  ///< that was just loaded
};

/// Weights out of a checkpoint, for the CPU: views into the mapped files that keep the mappings
/// alive. Tensors with gaps or odd addresses and those that change their storage type are copied.
/// Pages are read while loading, so that the first request does not wait for the disk.
class CheckpointWeights final : public WeightSource {
 public:
  CheckpointWeights(const Checkpoint& checkpoint, WeightStorage storage,
                    std::function<void(const LoadStep&)> progress);

  const CastCounts& cast_counts() const { return counts_; }

 private:
  at::Tensor Load(const std::string& name, at::IntArrayRef shape) override;

  Checkpoint checkpoint_;  // shares the mappings
  WeightStorage storage_;
  std::function<void(const LoadStep&)> progress_;
  LoadStep step_;
  CastCounts counts_;
};

}  // namespace xcomposer
