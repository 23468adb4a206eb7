#include "model/vision_encoder.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>

#include <algorithm>

#include "model/tap.h"
#include "model/vision_views.h"
#include "ops/step_memory.h"

namespace xcomposer {
namespace {

// Rows of the tower at a time; bounds the inner activations (16 KiB per row at full width).
constexpr int64_t kTowerRows = 4096;

}  // namespace

VisionEncoder::VisionEncoder(const ModelConfig& config, const WeightScope& root)
    : config_(config.vision),
      tower_(config.vision, root.Sub("vit.vision_tower.vision_model")),
      projector_(config, root) {}

at::Tensor VisionEncoder::Encode(const Picture& picture, at::Device device,
                                 const std::string& tap_prefix, const TapSink& taps,
                                 const StopTest& stop) const {
  const VisionViews views(config_, picture, device);
  if (taps.Wants(tap_prefix + ".rgb")) {
    const at::Tensor rgb = at::from_blob(const_cast<uint8_t*>(picture.rgb.data()),
                                         {picture.height, picture.width, 3}, at::kByte);
    PutTap(taps, tap_prefix + ".rgb", rgb);
  }
  at::Tensor features =
      at::empty({views.count(), config_.patches() + 1, config_.hidden_size},
                at::TensorOptions().dtype(at::kFloat).device(device));  // (n, N + 1, C)
  const int64_t step = std::max<int64_t>(1, kTowerRows / (config_.patches() + 1));
  for (int64_t first = 0; first < views.count(); first += step) {
    const int64_t count = std::min(step, views.count() - first);
    // What the tower leaves free goes before other memory is asked for beside it.
    const ops::StepMemory tower_memory;
    features.narrow(0, first, count).copy_(tower_.Forward(views.Take(first, count), stop));
  }
  PutTap(taps, tap_prefix + ".vit", features.narrow(1, 1, config_.patches()));
  at::Tensor rows =
      projector_.Forward(features, views.tile_rows(), views.tile_columns());  // (S, hidden)
  PutTap(taps, tap_prefix + ".embeds", rows);
  return rows;
}

}  // namespace xcomposer
