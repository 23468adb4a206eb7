#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "batch/picture.h"
#include "model/weight_scope.h"
#include "pipeline/decode_steps.h"
#include "pipeline/pipeline_options.h"
#include "pipeline/stage.h"
#include "pipeline/stage_device.h"
#include "placement/device_map.h"
#include "workers/layout.h"
#include "workers/row_link.h"
#include "workers/stage_body.h"

namespace xcomposer {

/// Picture features by handle: (S, C) each. What Step::first_stage_input points to.
using PictureRows = std::map<FeatureHandle, at::Tensor>;

/// A Stage as the threads and links of src/workers drive it.
class TorchStage final : public StageBody {
 public:
  struct Role {
    bool first = false;
    bool keeps_rows = false;  ///< who is given the rows takes them on the device
  };

  /// `device` is where `stage` was loaded; `memory` may be empty.
  TorchStage(Stage stage, Role role, std::unique_ptr<StageDevice> device,
             std::shared_ptr<StageMemory> memory)
      : device_(std::move(device)),
        stage_(std::move(stage)),
        role_(role),
        memory_(std::move(memory)) {
    if (device_->recorder() != nullptr) {
      decode_.emplace(stage_, *device_->recorder(), device_->host_options());
    }
  }

  StageDevice& device() { return *device_; }

  /// From now on who is given the rows takes them on the device. Before the first step.
  void KeepRows() { role_.keeps_rows = true; }

  /// Where kernels are loaded when they are first launched, launches them (warm_up.h). `rows`: of
  /// the longest part of a prompt. Before the first step.
  void WarmUp(int64_t rows);

  /// First stage only. Picture -> (S, C).
  at::Tensor Encode(const Picture& picture, const std::string& tap_prefix, const TapSink& taps,
                    const StopTest& stop);

  Payload Run(const Step& step, Payload hidden, const TapSink& taps) override;
  Logits Score(const Step& step, Payload hidden, const TapSink& taps) override;

 private:
  bool IsRecorded(const Step& step) const;
  at::Tensor Given(const Step& step, const Payload& hidden) const;
  at::Tensor Layers(const Step& step, const Payload& hidden, const TapSink& taps);
  void CountJoins(const Batch& batch);
  at::Tensor Taken(const Payload& payload, int64_t rows) const;

  const std::unique_ptr<StageDevice> device_;
  Stage stage_;
  Role role_;
  const std::shared_ptr<StageMemory> memory_;
  std::optional<DecodeSteps> decode_;  // where launches can be recorded
};

/// The ways of ConnectGpus between this rank's stages, `first` to `last`, and those of other ranks,
/// made on all ranks together.
RowLinks Connected(const PipelineOptions& options, const StageLayout& layout, TorchStage& first,
                   TorchStage& last);

/// Loads the stages [first, end) of the map, and nothing else. Throws as Pipeline's constructor.
std::vector<std::unique_ptr<TorchStage>> LoadStages(WeightSource& weights,
                                                    const ModelConfig& config, const DeviceMap& map,
                                                    const PipelineOptions& options, int first,
                                                    int end);

}  // namespace xcomposer
