#include "api/pictures.h"

#include <new>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>

#include "api/picture_plan.h"
#include "base/check.h"
#include "base/log.h"
#include "input/image_processor.h"
#include "input/tiling.h"
#include "input/video.h"

namespace xcomposer::api {
namespace {

PictureRule RuleFor(const Request& request, const RequestContext& context, size_t pictures) {
  const ModelConfig& config = context.config;
  PictureRule rule = PictureRuleFor(ToString(config.kind), config.vision.tile);
  rule.tile = config.vision.tile;
  rule.max_pixels = context.image_limits.max_pixels;
  if (request.hd_num) rule.hd_num = *request.hd_num;
  if (rule.style == PictureRule::Style::k25 && pictures > 1) rule.hd_num = kHdNumOfSeveralPictures;
  return rule;
}

void CheckPixels(const ImagePixels& pixels, const ImageLimits& limits) {
  Require(
      pixels.width > 0 && pixels.height > 0 && pixels.width <= limits.max_pixels / pixels.height,
      ErrorKind::kImage, "an image of ", pixels.width, " x ", pixels.height,
      " pixels; expected positive sizes and at most ", limits.max_pixels, " pixels");
}

/// One overload per kind of source.
class Preparation {
 public:
  Preparation(const PictureRule& rule, const RequestContext& context)
      : rule_(rule), context_(context) {}

  void operator()(const ImageFile& file) {
    FromPixels(LoadImage(file.path, context_.image_limits));
  }
  void operator()(const ImageBytes& image) {
    FromPixels(
        DecodeImage(std::as_bytes(std::span(image.bytes)), context_.image_limits, image.label));
  }
  void operator()(const ImagePixels& pixels) {
    CheckPixels(pixels, context_.image_limits);
    FromPixels(pixels);
  }
  void operator()(const VideoFrames& video) {
    FromFrames({.files = video.frames, .fps = video.fps});
  }
  void operator()(const VideoFolder& folder) { FromFrames(ReadFrameFolder(folder.path)); }
  void operator()(const VideoCanvas& canvas) {
    FromCanvas(LoadImage(canvas.path, context_.image_limits));
  }

  PreparedPictures Take() { return std::move(prepared_); }

 private:
  void FromPixels(const PixelView& pixels) {
    Admit(LayoutFor(pixels.width, pixels.height, rule_));
    Keep(ProcessPicture(pixels, rule_));
  }
  void FromCanvas(const PixelView& canvas) {
    Admit(CanvasPictureLayout(canvas.width, canvas.height, rule_));
    Keep(ProcessCanvas(canvas, rule_));
  }
  void FromFrames(const FrameFiles& frames) {
    const DrawnCanvas drawn = DrawVideoCanvas(
        frames, {.limits = context_.image_limits, .font_file = context_.video_font});
    for (const std::string& warning : drawn.warnings) log::Warn(warning);
    FromCanvas(drawn.canvas);
  }

  /// Before the picture is resized: a large hd_num makes gigabytes of a small picture.
  void Admit(const PictureLayout& layout) {
    shapes_.push_back(ShapeOf(layout));
    if (context_.pictures) RequirePicturesFit(*context_.pictures, shapes_);
  }
  void Keep(Picture&& picture) {
    prepared_.rows.push_back(shapes_.back().rows);
    prepared_.pictures.push_back(std::make_shared<const Picture>(std::move(picture)));
  }

  const PictureRule& rule_;
  const RequestContext& context_;
  std::vector<PictureShape> shapes_;
  PreparedPictures prepared_;
};

/// How errors call a picture.
struct Label {
  std::string operator()(const ImageFile& file) const { return file.path; }
  std::string operator()(const ImageBytes& image) const { return image.label; }
  std::string operator()(const ImagePixels&) const { return "pixels in memory"; }
  std::string operator()(const VideoFrames&) const { return "frames of a video"; }
  std::string operator()(const VideoFolder& folder) const { return folder.path; }
  std::string operator()(const VideoCanvas& canvas) const { return canvas.path; }
};

/// Names the picture in errors that do not say which file they are about.
void PrepareNamed(const ImageSource& source, Preparation& preparation) {
  try {
    std::visit(preparation, source);
  } catch (const Error& error) {
    const bool about_picture =
        error.kind() == ErrorKind::kImage || error.kind() == ErrorKind::kCapacity;
    if (!about_picture || error.where().contains("image") || error.where().contains("file")) throw;
    const std::string label = std::visit(Label(), source);
    throw Error(error.kind(), StrCat("picture '", label, "': ", error.what()), error.where())
        .With("image", label);
  } catch (const std::bad_alloc&) {
    const std::string label = std::visit(Label(), source);
    throw Error(ErrorKind::kCapacity,
                StrCat("picture '", label, "': not enough memory to resize it"),
                {{"image", label}});
  }
}

bool IsVideo(const ImageSource& source) {
  return std::holds_alternative<VideoFrames>(source) ||
         std::holds_alternative<VideoFolder>(source) || std::holds_alternative<VideoCanvas>(source);
}

}  // namespace

PreparedPictures PreparePictures(const Request& request, const RequestContext& context) {
  if (!request.images) return {};
  const PictureRule rule = RuleFor(request, context, request.images->size());
  Preparation preparation(rule, context);
  for (const ImageSource& source : *request.images) {
    Require(!IsVideo(source) || context.config.kind == Kind::k25_7b, ErrorKind::kImage,
            "a video was given, but this checkpoint is a ", ToString(context.config.kind),
            "; only 2.5-7b reads videos");
    PrepareNamed(source, preparation);
  }
  return preparation.Take();
}

}  // namespace xcomposer::api
