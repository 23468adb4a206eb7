#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <memory>
#include <vector>

#include "batch/picture.h"
#include "model/weight_scope.h"
#include "pipeline/core_pool.h"
#include "pipeline/pipeline_options.h"
#include "pipeline/stage.h"
#include "placement/device_map.h"
#include "workers/stage_body.h"

namespace xcomposer {

/// Picture features by handle: (S, C) each. What Step::first_stage_input points to.
using PictureRows = std::map<FeatureHandle, at::Tensor>;

/// A Stage as the threads and links of src/workers drive it.
class TorchStage final : public StageBody {
 public:
  /// `memory` may be empty.
  TorchStage(Stage stage, bool first, std::shared_ptr<CorePool> cores,
             std::shared_ptr<StageMemory> memory)
      : stage_(std::move(stage)),
        first_(first),
        cores_(std::move(cores)),
        memory_(std::move(memory)) {}

  /// First stage only. Picture -> (S, C).
  at::Tensor Encode(const Picture& picture, const std::string& tap_prefix, const TapSink& taps);

  Payload Run(const Step& step, Payload hidden, const TapSink& taps) override;
  Logits Score(const Step& step, const Payload& hidden, const TapSink& taps) override;

 private:
  void CountJoins(const Batch& batch);

  Stage stage_;
  const bool first_;
  const std::shared_ptr<CorePool> cores_;
  const std::shared_ptr<StageMemory> memory_;
};

/// Loads the stages [first, end) of the map, and nothing else. Throws as Pipeline's constructor.
std::vector<std::unique_ptr<TorchStage>> LoadStages(WeightSource& weights,
                                                    const ModelConfig& config, const DeviceMap& map,
                                                    const PipelineOptions& options, int first,
                                                    int end);

}  // namespace xcomposer
