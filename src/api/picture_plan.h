#pragma once

#include <cstdint>

#include "config/model_config.h"
#include "input/tiling.h"
#include "placement/workload.h"

namespace xcomposer::api {

/// The picture that a plan is made for.
struct PictureQuestion {
  int64_t width = 0;  ///< pixels; 0: whatever size has the most rows under `hd_num`
  int64_t height = 0;
  int64_t images = 1;  ///< per request
  int64_t hd_num = 0;  ///< ignored by the kinds without tiles
};

/// hd_num of the kind's `chat`; 0 for the kinds without tiles.
int64_t DefaultHdNum(const ModelConfig& config);

PictureShape ShapeOf(const PictureLayout& layout);

/// As the kind prepares it. Throws kImage and kRequest as LayoutFor does.
PictureShape ShapeOf(const ModelConfig& config, const PictureQuestion& question);

}  // namespace xcomposer::api
