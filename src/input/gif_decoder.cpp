#include <array>
#include <optional>
#include <vector>

#include "base/check.h"
#include "input/picture_formats.h"
#include "input/picture_reader.h"
#include "input/pixel_modes.h"

namespace xcomposer {
namespace {

constexpr int kMaxCodeBits = 12;
constexpr int kMaxCodes = 1 << kMaxCodeBits;

/// A colour table, or nothing where it says no more than "index = gray".
using ColourTable = std::optional<Palette>;

struct GifFrame {
  int64_t left = 0;
  int64_t top = 0;
  int64_t width = 0;
  int64_t height = 0;
  bool interlaced = false;
  int code_bits = 0;  // of a literal
};

struct GifHeader {
  int64_t width = 0;  // of the canvas, widened to hold the first frame
  int64_t height = 0;
  ColourTable colours;
  const char* mode = "L";
  int transparent = 0;  // what the canvas is filled with outside the frame
  GifFrame frame;
};

ColourTable ReadColourTable(PictureReader& in, int64_t flags) {
  const int64_t count = int64_t{2} << (flags & 7);
  Palette palette{};
  bool ramp = true;
  for (int64_t i = 0; i < count; ++i) {
    for (uint8_t& channel : palette[i]) {
      channel = static_cast<uint8_t>(in.U8());
      ramp = ramp && channel == i;
    }
  }
  if (ramp) return std::nullopt;
  return palette;
}

/// The next sub-block; empty at the end of the list.
std::span<const std::byte> NextBlock(PictureReader& in) { return in.Take(in.U8()); }

void SkipBlocks(PictureReader& in) {
  while (!NextBlock(in).empty()) continue;
}

void ReadExtension(PictureReader& in, GifHeader& header) {
  constexpr int64_t kGraphicControl = 249;
  constexpr int64_t kComment = 254;
  const int64_t label = in.U8();
  const auto block = NextBlock(in);
  if (label == kGraphicControl && !block.empty()) {
    const bool has_transparency = (std::to_integer<int>(block[0]) & 1) != 0;
    Require(!has_transparency || block.size() >= 4, ErrorKind::kImage,
            "broken GIF: a graphic control block of ", block.size(), " bytes, expected 4");
    if (has_transparency) header.transparent = std::to_integer<int>(block[3]);
  }
  if (label == kComment && block.empty()) return;
  SkipBlocks(in);
}

void ReadFrameHeader(PictureReader& in, GifHeader& header) {
  GifFrame& frame = header.frame;
  frame.left = in.U16();
  frame.top = in.U16();
  frame.width = in.U16();
  frame.height = in.U16();
  const int64_t flags = in.U8();
  frame.interlaced = (flags & 64) != 0;
  if ((flags & 128) != 0) {
    // A table of its own that only says "index = gray" leaves the canvas' colours in force, in
    // Pillow.
    const ColourTable own = ReadColourTable(in, flags);
    if (own) header.colours = own;
    header.mode = own ? "P" : "L";
  }
  frame.code_bits = static_cast<int>(in.U8());
  Require(frame.width > 0 && frame.height > 0, ErrorKind::kImage, "broken GIF: the first frame is ",
          frame.width, " x ", frame.height, " pixels");
  Require(frame.code_bits < kMaxCodeBits, ErrorKind::kImage, "broken GIF: ", frame.code_bits,
          " bits per literal, at most 11 are possible");
  header.width = std::max(header.width, frame.left + frame.width);
  header.height = std::max(header.height, frame.top + frame.height);
}

/// Everything up to the first frame's compressed pixels.
GifHeader ReadHeader(PictureReader& in) {
  GifHeader header;
  in.Skip(6);
  header.width = in.U16();
  header.height = in.U16();
  const int64_t flags = in.U8();
  in.Skip(2);
  if ((flags & 128) != 0) header.colours = ReadColourTable(in, flags);
  if (header.colours) header.mode = "P";
  while (in.remaining() > 0) {
    const int64_t kind = in.U8();
    if (kind == ';') break;
    if (kind == '!') ReadExtension(in, header);
    if (kind == ',') {
      ReadFrameHeader(in, header);
      return header;
    }
  }
  throw Error(ErrorKind::kImage, "broken GIF: it holds no frame");
}

/// Codes of growing width, least significant bit first, out of the chain of sub-blocks.
class CodeReader {
 public:
  explicit CodeReader(PictureReader& in) : in_(in) {}

  int Next(int bits) {
    while (bit_count_ < bits) {
      while (block_left_ == 0) NextSubBlock();
      buffer_ |= static_cast<uint32_t>(in_.U8()) << bit_count_;
      bit_count_ += 8;
      --block_left_;
    }
    const int code = static_cast<int>(buffer_ & ((1u << bits) - 1));
    buffer_ >>= bits;
    bit_count_ -= bits;
    return code;
  }

 private:
  void NextSubBlock() {
    block_left_ = in_.U8();
    Require(block_left_ <= in_.remaining(), ErrorKind::kImage, "truncated GIF: a block of ",
            block_left_, " bytes, ", in_.remaining(), " left");
  }

  PictureReader& in_;
  int64_t block_left_ = 0;
  uint32_t buffer_ = 0;
  int bit_count_ = 0;
};

/// Takes the pixels of a frame in file order and puts them in their rows.
class FrameWriter {
 public:
  FrameWriter(std::vector<uint8_t>& canvas, int64_t canvas_width, const GifFrame& frame)
      : canvas_(canvas), canvas_width_(canvas_width), frame_(frame) {}

  bool done() const { return pass_ == kPasses || (pass_ > 0 && !frame_.interlaced); }

  void Put(uint8_t index) {
    canvas_[static_cast<size_t>((frame_.top + y_) * canvas_width_ + frame_.left + x_)] = index;
    if (++x_ < frame_.width) return;
    x_ = 0;
    y_ += frame_.interlaced ? kStep[pass_] : 1;
    while (!done() && y_ >= frame_.height) {
      ++pass_;
      if (pass_ < kPasses) y_ = kFirst[pass_];
    }
  }

 private:
  static constexpr int kPasses = 4;
  static constexpr std::array<int64_t, kPasses> kFirst = {0, 4, 2, 1};
  static constexpr std::array<int64_t, kPasses> kStep = {8, 8, 4, 2};

  std::vector<uint8_t>& canvas_;
  int64_t canvas_width_;
  const GifFrame& frame_;
  int64_t x_ = 0;
  int64_t y_ = 0;
  int pass_ = 0;
};

/// The dictionary of the LZW coding: strings as a chain of last symbols.
class LzwTable {
 public:
  explicit LzwTable(int literal_bits) : literal_bits_(literal_bits), clear_(1 << literal_bits) {
    Reset();
  }

  int clear() const { return clear_; }
  int end() const { return clear_ + 1; }
  int bits() const { return bits_; }

  void Reset() {
    next_ = clear_ + 2;
    bits_ = literal_bits_ + 1;
    last_code_ = -1;
  }

  /// The string of `code`, last symbol first, into `reversed`; learns the next string from it.
  void Expand(int code, std::vector<uint8_t>& reversed) {
    reversed.clear();
    if (last_code_ < 0) {
      RequireCode(code <= clear_, code);
      first_ = static_cast<uint8_t>(code);
      reversed.push_back(first_);
      last_code_ = code;
      return;
    }
    RequireCode(code <= next_, code);
    int at = code;
    if (code == next_) {  // the string that is being defined: the last one and its own first symbol
      reversed.push_back(first_);
      at = last_code_;
    }
    while (at >= clear_) {
      RequireCode(at < kMaxCodes && at != clear_ && at != end(), at);
      reversed.push_back(symbol_[at]);
      at = prefix_[at];
    }
    first_ = static_cast<uint8_t>(at);
    reversed.push_back(first_);
    Learn();
    last_code_ = code;
  }

 private:
  static void RequireCode(bool good, int code) {
    Require(good, ErrorKind::kImage, "broken GIF: code ", code, " is not in the dictionary");
  }

  void Learn() {
    if (next_ == kMaxCodes) return;
    symbol_[next_] = first_;
    prefix_[next_] = last_code_;
    if (next_ == (1 << bits_) - 1 && bits_ < kMaxCodeBits) ++bits_;
    ++next_;
  }

  int literal_bits_;
  int clear_;
  int next_ = 0;
  int bits_ = 0;
  int last_code_ = -1;
  uint8_t first_ = 0;
  std::array<uint8_t, kMaxCodes> symbol_{};
  std::array<int, kMaxCodes> prefix_{};
};

void DecodeFrame(PictureReader& in, const GifFrame& frame, FrameWriter writer) {
  LzwTable table(frame.code_bits);
  CodeReader codes(in);
  std::vector<uint8_t> reversed;
  while (!writer.done()) {
    const int code = codes.Next(table.bits());
    if (code == table.clear()) {
      table.Reset();
      continue;
    }
    Require(code != table.end(), ErrorKind::kImage,
            "truncated GIF: the data of the first frame ends early");
    table.Expand(code, reversed);
    for (size_t i = reversed.size(); i-- > 0 && !writer.done();) writer.Put(reversed[i]);
  }
}

}  // namespace

DecodedImage DecodeGif(EncodedBytes encoded, const ImageLimits& limits) {
  PictureReader in(encoded);
  const GifHeader header = ReadHeader(in);
  CheckImageSize(header.width, header.height, limits);
  std::vector<uint8_t> canvas(static_cast<size_t>(header.width * header.height),
                              static_cast<uint8_t>(header.transparent));
  DecodeFrame(in, header.frame, FrameWriter(canvas, header.width, header.frame));
  DecodedImage image = MakeImage(header.width, header.height, header.mode);
  for (size_t i = 0; i < canvas.size(); ++i) {
    const auto index = static_cast<int64_t>(i);
    if (header.colours) {
      SetPixel(image, index, (*header.colours)[canvas[i]]);
    } else {
      SetGray(image, index, canvas[i]);
    }
  }
  return image;
}

}  // namespace xcomposer
