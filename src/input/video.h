#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "batch/picture.h"
#include "input/image_decoder.h"
#include "input/pixel_view.h"
#include "input/tiling.h"

/// 2.5's videos (the model specification, 4.5): some frames, each 1120 pixels along its long side,
/// drawn beside or below each other on one white canvas, which then becomes one picture.
namespace xcomposer {

/// All frames of a clip in order, as files.
struct FrameFiles {
  std::vector<std::string> files;
  double fps = 0;  ///< average frames per second
};

struct VideoOptions {
  ImageLimits limits;
  std::string font_file;  ///< for the labels "<IMAGE i>"; empty: no labels
};

struct DrawnCanvas {
  Picture canvas;
  std::vector<std::string> warnings;  ///< for the user, for example that the labels were left out
};

struct FrameSize {
  int64_t width = 0;
  int64_t height = 0;
};

/// Where one frame goes on the canvas; the label's corner is the slot's.
struct CanvasSlot {
  int64_t x = 0;
  int64_t y = 0;
  int64_t frame_y = 0;  ///< frames start at the slot's x
  FrameSize frame;      ///< after resizing
};

struct CanvasLayout {
  int64_t width = 0;
  int64_t height = 0;
  bool stacked = false;  ///< below each other (the last frame is landscape), else side by side
  std::vector<CanvasSlot> slots;
};

/// A folder of frames named by number (any picture format) with `fps.txt` beside them.
/// Throws Error(kImage) where either is missing.
FrameFiles ReadFrameFolder(const std::string& folder);

/// The frames that are used: about one a second, at most 32. Throws Error(kImage) for no frames, or
/// an average of half a frame a second or less, where the reference fails too.
std::vector<int64_t> SampleFrames(int64_t frame_count, double fps);

/// The canvas for frames of these original sizes. Throws Error(kImage) for a frame so narrow that
/// it would be resized to nothing.
CanvasLayout CanvasLayoutFor(std::span<const FrameSize> originals);

/// Samples, decodes and draws the frames.
DrawnCanvas DrawVideoCanvas(const FrameFiles& video, const VideoOptions& options);

/// The layout of a canvas' final picture for the kind 2.5-7b: one tile on the short side, whatever
/// hd_num says. Throws Error(kImage) as LayoutFor.
PictureLayout CanvasPictureLayout(int64_t width, int64_t height, const PictureRule& rule);

/// Resizes and pads a drawn canvas: what ProcessPicture is for other pictures.
Picture ProcessCanvas(const PixelView& canvas, const PictureRule& rule);

}  // namespace xcomposer
