#pragma once

#include <cstdint>
#include <functional>
#include <optional>
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

/// When a mapped weight's pages are read from the disk.
enum class PageReading {
  kWhileLoading,  ///< so that the first request does not wait for the disk
  kLater          ///< by who copies them to a device
};

/// Weights out of a checkpoint, for the CPU: views into the mapped files that keep the mappings
/// alive, quantised linears in their own packing. Tensors with gaps or odd addresses and those that
/// change their storage type are copied.
class CheckpointWeights final : public WeightSource {
 public:
  /// `stored` says how the checkpoint's linears are quantised; `wanted` (GPTQ's layout, or none)
  /// how those that are not shall be. `storage` does not touch quantised ones. Throws kUsage where
  /// both quantise.
  CheckpointWeights(const Checkpoint& checkpoint, const Quantization& stored,
                    const Quantization& wanted, WeightStorage storage,
                    std::function<void(const LoadStep&)> progress,
                    PageReading reading = PageReading::kWhileLoading);

  const CastCounts& cast_counts() const { return counts_; }

 private:
  at::Tensor Load(const std::string& name, at::IntArrayRef shape) override;
  std::optional<at::Tensor> LoadPart(const std::string& name, at::ScalarType type,
                                     at::IntArrayRef shape) override;
  ops::LinearWeight Prepared(ops::LinearWeight weight, const std::string& name) override;
  /// The tensor as stored, or nothing where the checkpoint does not have it.
  std::optional<at::Tensor> Read(const std::string& name);

  Checkpoint checkpoint_;  // shares the mappings
  Quantization wanted_;
  WeightStorage storage_;
  std::function<void(const LoadStep&)> progress_;
  PageReading reading_;
  LoadStep step_;
  CastCounts counts_;
};

}  // namespace xcomposer
