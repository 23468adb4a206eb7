#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "batch/batch.h"
#include "batch/picture.h"
#include "config/model_config.h"
#include "model/projector.h"
#include "model/vision_tower.h"
#include "model/weight_scope.h"

namespace xcomposer {

/// From a prepared picture to rows of the decoder's input: views, tower, projector.
class VisionEncoder {
 public:
  /// `root` is the scope of the whole checkpoint.
  VisionEncoder(const ModelConfig& config, const WeightScope& root);

  /// -> (rows, hidden) float32 on `device`, which is that of the weights. Views go through the
  /// tower a few at a time, so that memory does not grow with the number of tiles beyond the
  /// features themselves. Taps: <prefix>.rgb, <prefix>.vit, <prefix>.embeds. Throws kImage for a
  /// picture of the wrong size, and kCancelled where `stop` says so on the way.
  at::Tensor Encode(const Picture& picture, at::Device device, const std::string& tap_prefix,
                    const TapSink& taps, const StopTest& stop) const;

 private:
  VisionConfig config_;
  VisionTower tower_;
  Projector projector_;
};

}  // namespace xcomposer
