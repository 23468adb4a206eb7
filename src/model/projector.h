#pragma once

#include <ATen/core/Tensor.h>

#include "config/model_config.h"
#include "model/vision_tower.h"
#include "model/weight_scope.h"

namespace xcomposer {

/// Turns the tower's features of one picture into rows of the decoder's input.
class Projector {
 public:
  /// `root` is the scope of the whole checkpoint (vision_proj, plora_glb_GN, plora_sub_GN).
  Projector(const ModelConfig& config, const WeightScope& root);

  /// features (views, N + 1, C), the class's row first -> (rows, hidden). Under tiling the first
  /// view is the global one, followed by tile_rows * tile_columns tiles; the separator rows pass
  /// through vision_proj like all others (model specification 3.4, 3.5).
  at::Tensor Forward(const at::Tensor& features, int64_t tile_rows, int64_t tile_columns) const;

 private:
  int64_t hidden_size_;
  VisionConfig vision_;
  BiasedLinear proj0_;
  BiasedLinear proj2_;
  at::Tensor glb_gn_;  // (4C) float32, only under tiling
  at::Tensor sub_gn_;  // (4C) float32, only under tiling
};

}  // namespace xcomposer
