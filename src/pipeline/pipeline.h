#pragma once

#include <memory>
#include <string>
#include <vector>

#include "batch/executor.h"
#include "checkpoint/checkpoint.h"
#include "config/model_config.h"
#include "model/weight_scope.h"
#include "pipeline/pipeline_options.h"
#include "placement/device_map.h"

namespace xcomposer {

/// The model over the stages of a device map: all in this process, or this process is rank 0 of
/// several that serve theirs (rank_server.h). Every stage has a thread of its own, and several
/// batches may be in flight. The result of a batch depends neither on how the layers are split nor
/// on what else is in flight.
///
/// Calls come from one thread at a time. Errors of a batch leave the pipeline usable; a lost rank
/// ends it.
class Pipeline final : public Executor {
 public:
  /// Checks the tensors against the configuration and loads. Throws kCheckpoint, kPlan, kDevice,
  /// kCapacity, and what ends a run over several processes.
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
  EncodedPicture Encode(const Picture& picture, const std::string& tap_prefix, const TapSink& taps,
                        const StopTest& stop) override;
  void Release(FeatureHandle feature) override;
  void Submit(Batch batch) override;
  Logits Collect() override;

 private:
  struct Running;  // stages and features: keeps LibTorch out of this header's users
  void Build(WeightSource& weights, const PipelineOptions& options);

  ModelConfig config_;
  DeviceMap map_;
  std::vector<int> rank_of_stage_;
  ExecutorLimits limits_;
  std::unique_ptr<Running> running_;
};

}  // namespace xcomposer
