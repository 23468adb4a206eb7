#include "api/picture_plan.h"

#include <algorithm>

namespace xcomposer::api {
namespace {

PictureRule RuleFor(const ModelConfig& config) {
  PictureRule rule = PictureRuleFor(ToString(config.kind), config.vision.tile);
  rule.tile = config.vision.tile;
  return rule;
}

/// Of all pictures under the rule the one with the most rows: as many tiles as are allowed, in the
/// shape that has the most rows of tiles.
PictureShape Largest(const PictureRule& rule) {
  PictureShape largest;
  for (int64_t across = 1; across <= rule.hd_num; ++across) {
    const int64_t along = rule.hd_num / across;
    if (along > across) continue;
    for (const bool upright : {false, true}) {
      const int64_t width = rule.tile * (upright ? along : across);
      const int64_t height = rule.tile * (upright ? across : along);
      const PictureLayout layout = LayoutFor(width, height, rule);
      if (layout.rows > largest.rows) largest = ShapeOf(layout);
    }
  }
  return largest;
}

}  // namespace

int64_t DefaultHdNum(const ModelConfig& config) {
  return config.vision.tiled ? RuleFor(config).hd_num : 0;
}

PictureShape ShapeOf(const PictureLayout& layout) {
  return {layout.width, layout.height, layout.tile_rows, layout.tile_columns, layout.rows};
}

PictureShape ShapeOf(const ModelConfig& config, const PictureQuestion& question) {
  PictureRule rule = RuleFor(config);
  const bool forced = rule.style == PictureRule::Style::k25 && question.images > 1;
  if (config.vision.tiled) rule.hd_num = forced ? kHdNumOfSeveralPictures : question.hd_num;
  if (!config.vision.tiled) return ShapeOf(LayoutFor(rule.tile, rule.tile, rule));
  if (question.width == 0) return Largest(rule);
  return ShapeOf(LayoutFor(question.width, question.height, rule));
}

}  // namespace xcomposer::api
