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

/// Weights out of a checkpoint. For the CPU views into the mapped files that keep the mappings
/// alive and whose pages are read while loading, so that the first request does not wait for the
/// disk; quantised linears in their own packing, and those in 12 bits as they are, unless they are
/// to be of another type: then, and for other devices, they are unpacked. Tensors with gaps or odd
/// addresses and those that change their storage type are copied. For other devices the files'
/// bytes (TakeUnread).
class CheckpointWeights final : public WeightSource {
 public:
  /// `stored` says how the checkpoint's linears and output matrix are quantised; `wanted` (the own
  /// layout, or none) how those that are not shall be. `storage` does not touch quantised ones.
  /// Throws kUsage where both quantise.
  CheckpointWeights(const Checkpoint& checkpoint, const Quantization& stored,
                    const Quantization& wanted, WeightStorage storage,
                    std::function<void(const LoadStep&)> progress);

  const CastCounts& cast_counts() const { return counts_; }

 private:
  at::Tensor Load(const std::string& name, at::IntArrayRef shape) override;
  /// Without touching the mapping, whose pages would have to be found one by one.
  UnreadTensor LoadUnread(const std::string& name, at::IntArrayRef shape) override;
  std::optional<at::Tensor> LoadPart(const std::string& name, at::ScalarType type,
                                     at::IntArrayRef shape) override;
  ops::LinearWeight Prepared(ops::LinearWeight weight, const std::string& name,
                             LinearRole role) override;
  std::optional<ops::LinearWeight> LoadBf12(const std::string& weight, int64_t outputs,
                                            int64_t inputs) override;
  /// The matrix as it is stored, or nothing where the checkpoint does not have it in 12 bits.
  std::optional<ops::LinearWeight> ReadBf12(const std::string& weight, at::IntArrayRef shape);
  void Advance(const TensorEntry& entry);
  /// The tensor as stored, or nothing where the checkpoint does not have it.
  std::optional<at::Tensor> Read(const std::string& name);

  Checkpoint checkpoint_;  // shares the mappings
  Quantization wanted_;
  WeightStorage storage_;
  std::function<void(const LoadStep&)> progress_;
  LoadStep step_;
  CastCounts counts_;
};

}  // namespace xcomposer
