#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

namespace xcomposer {

/// A picture file: JPEG, PNG, WebP, BMP, TIFF or GIF (first frame), recognised by its content.
struct ImageFile {
  std::string path;
};

/// The same formats, already in memory.
struct ImageBytes {
  std::vector<uint8_t> bytes;
  std::string label = "image in memory";  ///< how errors call it
};

/// Decoded pixels: (height, width, 3) bytes, row-major, RGB. Needs no picture decoders.
struct ImagePixels {
  int64_t width = 0;
  int64_t height = 0;
  std::vector<uint8_t> rgb;
};

/// 2.5 only: frames of a video, laid out as one picture. `fps` decides which frames are taken.
struct VideoFrames {
  std::vector<std::string> frames;
  double fps = 1.0;
};

/// 2.5 only: a folder of numbered frames with a file fps.txt.
struct VideoFolder {
  std::string path;
};

/// 2.5 only: a video whose canvas of frames is already drawn.
struct VideoCanvas {
  std::string path;
};

using ImageSource =
    std::variant<ImageFile, ImageBytes, ImagePixels, VideoFrames, VideoFolder, VideoCanvas>;

}  // namespace xcomposer
