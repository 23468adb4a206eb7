#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "batch/executor.h"
#include "checkpoint/checkpoint.h"
#include "config/model_config.h"
#include "model/kv_cache.h"
#include "model/weight_scope.h"
#include "pipeline/checkpoint_weights.h"
#include "pipeline/storage_cast.h"
#include "placement/device_map.h"

namespace xcomposer {

struct PipelineOptions {
  int threads = 0;  ///< of the CPU stages; 0: as many as this process may use
  KvShape kv = {.blocks = 256, .block_size = 32};
  int64_t max_batch_rows = 512;
  WeightStorage storage = WeightStorage::kAsStored;
  Quantization quantise;  ///< the decoder's linears while loading; GPTQ's layout, or none
  std::function<void(const LoadStep&)> progress;
};

/// The model over the stages of a device map, all in this process, run one after the other. The
/// result of a batch does not depend on how the layers are split.
///
/// Calls come from one thread at a time. Errors leave the pipeline usable.
class Pipeline final : public Executor {
 public:
  /// Checks the tensors against the configuration and loads. Throws kCheckpoint, kPlan, kDevice,
  /// kCapacity.
  Pipeline(const Checkpoint& checkpoint, const ModelConfig& config, const DeviceMap& map,
           const PipelineOptions& options);

  /// The same from any source of weights.
  Pipeline(WeightSource& weights, const ModelConfig& config, const DeviceMap& map,
           const PipelineOptions& options);

  ~Pipeline() override;
  Pipeline(const Pipeline&) = delete;
  Pipeline& operator=(const Pipeline&) = delete;

  const ExecutorLimits& limits() const override { return limits_; }
  std::vector<PlacedPart> placement() const override;
  EncodedPicture Encode(const Picture& picture, const std::string& tap_prefix,
                        const TapSink& taps) override;
  void Release(FeatureHandle feature) override;
  Logits Forward(const Batch& batch) override;

 private:
  struct Running;  // stages, features and threads: keeps LibTorch out of this header's users
  void Build(WeightSource& weights, const PipelineOptions& options);

  ModelConfig config_;
  DeviceMap map_;
  ExecutorLimits limits_;
  std::unique_ptr<Running> running_;
};

}  // namespace xcomposer
