#include "api/pictures.h"

#include <type_traits>
#include <utility>
#include <variant>

#include "base/check.h"
#include "base/log.h"
#include "input/image_processor.h"
#include "input/tiling.h"
#include "input/video.h"

namespace xcomposer::api {
namespace {

PictureRule RuleFor(const Request& request, const ModelConfig& config, size_t pictures) {
  PictureRule rule = PictureRuleFor(ToString(config.kind), config.vision.tile);
  rule.tile = config.vision.tile;
  if (request.hd_num) rule.hd_num = *request.hd_num;
  if (rule.style == PictureRule::Style::k25 && pictures > 1) rule.hd_num = kHdNumOfSeveralPictures;
  return rule;
}

struct Prepared {
  Picture picture;
  int64_t rows = 0;
};

Prepared FromPixels(const PixelView& pixels, const PictureRule& rule) {
  return {ProcessPicture(pixels, rule), LayoutFor(pixels.width, pixels.height, rule).rows};
}

Prepared FromCanvas(const PixelView& canvas, const PictureRule& rule) {
  return {ProcessCanvas(canvas, rule), CanvasPictureLayout(canvas.width, canvas.height, rule).rows};
}

Prepared FromFrames(const FrameFiles& frames, const PictureRule& rule,
                    const RequestContext& context) {
  const DrawnCanvas drawn =
      DrawVideoCanvas(frames, {.limits = context.image_limits, .font_file = context.video_font});
  for (const std::string& warning : drawn.warnings) log::Warn(warning);
  return FromCanvas(drawn.canvas, rule);
}

void CheckPixels(const ImagePixels& pixels, const ImageLimits& limits) {
  Require(
      pixels.width > 0 && pixels.height > 0 && pixels.width <= limits.max_pixels / pixels.height,
      ErrorKind::kImage, "an image of ", pixels.width, " x ", pixels.height,
      " pixels; expected positive sizes and at most ", limits.max_pixels, " pixels");
}

// One overload per kind of source.
struct Reader {
  const PictureRule& rule;
  const RequestContext& context;

  Prepared operator()(const ImageFile& file) const {
    return FromPixels(LoadImage(file.path, context.image_limits), rule);
  }
  Prepared operator()(const ImageBytes& image) const {
    return FromPixels(
        DecodeImage(std::as_bytes(std::span(image.bytes)), context.image_limits, image.label),
        rule);
  }
  Prepared operator()(const ImagePixels& pixels) const {
    CheckPixels(pixels, context.image_limits);
    return FromPixels(pixels, rule);
  }
  Prepared operator()(const VideoFrames& video) const {
    return FromFrames({.files = video.frames, .fps = video.fps}, rule, context);
  }
  Prepared operator()(const VideoFolder& folder) const {
    return FromFrames(ReadFrameFolder(folder.path), rule, context);
  }
  Prepared operator()(const VideoCanvas& canvas) const {
    return FromCanvas(LoadImage(canvas.path, context.image_limits), rule);
  }
};

bool IsVideo(const ImageSource& source) {
  return std::holds_alternative<VideoFrames>(source) ||
         std::holds_alternative<VideoFolder>(source) || std::holds_alternative<VideoCanvas>(source);
}

}  // namespace

PreparedPictures PreparePictures(const Request& request, const RequestContext& context) {
  PreparedPictures prepared;
  if (!request.images) return prepared;
  const PictureRule rule = RuleFor(request, context.config, request.images->size());
  for (const ImageSource& source : *request.images) {
    Require(!IsVideo(source) || context.config.kind == Kind::k25_7b, ErrorKind::kImage,
            "a video was given, but this checkpoint is a ", ToString(context.config.kind),
            "; only 2.5-7b reads videos");
    Prepared one = std::visit(Reader{rule, context}, source);
    prepared.rows.push_back(one.rows);
    prepared.pictures.push_back(std::make_shared<const Picture>(std::move(one.picture)));
  }
  return prepared;
}

}  // namespace xcomposer::api
