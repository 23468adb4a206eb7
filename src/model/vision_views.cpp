#include "model/vision_views.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/upsample_bicubic2d.h>

#include "base/check.h"
#include "base/checked_math.h"
#include "ops/ops.h"

namespace xcomposer {
namespace {

// CLIP's mean and standard deviation, RGB (model specification 4).
constexpr float kMean[3] = {0.48145466f, 0.4578275f, 0.40821073f};
constexpr float kStd[3] = {0.26862954f, 0.26130258f, 0.27577711f};

/// v / 255, then (v - mean) / std for every value of a byte, each step rounded to float32 as the
/// reference does.
at::Tensor Levels() {
  at::Tensor levels = at::empty({3, 256}, at::kFloat);
  auto* level = levels.mutable_data_ptr<float>();
  for (const int channel : {0, 1, 2}) {
    for (int value = 0; value < 256; ++value) {
      *level++ = (static_cast<float>(value) / 255.0f - kMean[channel]) / kStd[channel];
    }
  }
  return levels;
}

/// (3, h, w) on the device.
at::Tensor Normalised(const Picture& picture, at::Device device) {
  const at::Tensor rgb = at::from_blob(const_cast<uint8_t*>(picture.rgb.data()),
                                       {picture.height, picture.width, 3}, at::kByte);
  return ops::NormalisePixels(rgb.to(device), Levels().to(device));
}

}  // namespace

VisionViews::VisionViews(const VisionConfig& config, const Picture& picture, at::Device device)
    : config_(config) {
  const int64_t tile = config.tile;
  const auto pixels = CheckedMul(picture.width, picture.height);
  const auto bytes = pixels ? CheckedMul(*pixels, 3) : std::nullopt;
  Require(picture.width > 0 && picture.height > 0 && bytes &&
              static_cast<int64_t>(picture.rgb.size()) == *bytes,
          ErrorKind::kImage, "a picture of ", picture.width, "x", picture.height, " holds ",
          picture.rgb.size(), " bytes, expected width * height * 3");
  const bool fits = config.tiled ? picture.width % tile == 0 && picture.height % tile == 0
                                 : picture.width == tile && picture.height == tile;
  Require(fits, ErrorKind::kImage, "the prepared picture is ", picture.width, "x", picture.height,
          ", expected ", config.tiled ? "multiples of " : "exactly ", tile);
  tile_rows_ = picture.height / tile;
  tile_columns_ = picture.width / tile;
  pixels_ = Normalised(picture, device);
  if (config.tiled) {  // bicubic with A = -0.75 and without antialiasing, however much it shrinks
    global_ = at::upsample_bicubic2d(pixels_.unsqueeze(0), {tile, tile}, /*align_corners=*/false)
                  .squeeze(0);  // (3, P, P)
  }
}

at::Tensor VisionViews::Take(int64_t first, int64_t count) const {
  const int64_t tile = config_.tile;
  std::vector<at::Tensor> views;
  for (int64_t view = first; view < first + count; ++view) {
    if (!config_.tiled) {
      views.push_back(pixels_);
    } else if (view == 0) {
      views.push_back(global_);
    } else {
      const int64_t row = (view - 1) / tile_columns_;
      const int64_t column = (view - 1) % tile_columns_;
      views.push_back(pixels_.narrow(1, row * tile, tile).narrow(2, column * tile, tile));
    }
  }
  return at::stack(views);  // (count, 3, P, P)
}

}  // namespace xcomposer
