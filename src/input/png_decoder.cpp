#include <png.h>

#include <csetjmp>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <vector>

#include "base/check.h"
#include "input/picture_formats.h"
#include "input/pixel_modes.h"

namespace xcomposer {
namespace {

constexpr int64_t kMaxChunkBytes = 8 << 20;

/// Pixels as they stand in the file, unpacked to whole bytes.
struct PngHeader {
  int64_t width = 0;
  int64_t height = 0;
  int bits = 0;
  int colour_type = 0;
};

/// One reader of libpng. Its errors leave by longjmp, so no function that calls setjmp may hold
/// objects with destructors; it returns false instead, and message() says why.
class PngSession {
 public:
  explicit PngSession(EncodedBytes encoded) : encoded_(encoded) {
    png_ = png_create_read_struct(
        PNG_LIBPNG_VER_STRING, this,
        [](png_structp png, png_const_charp message) {
          static_cast<PngSession*>(png_get_error_ptr(png))->Fail(message);
        },
        [](png_structp, png_const_charp) {});
    if (png_ != nullptr) info_ = png_create_info_struct(png_);
    if (info_ == nullptr) {
      png_destroy_read_struct(&png_, &info_, nullptr);
      throw Error(ErrorKind::kCapacity, "libpng could not be started");
    }
  }
  ~PngSession() { png_destroy_read_struct(&png_, &info_, nullptr); }
  PngSession(const PngSession&) = delete;
  PngSession& operator=(const PngSession&) = delete;

  bool ReadHeader() {
    if (setjmp(jump_) != 0) return false;
    png_set_read_fn(png_, this, [](png_structp png, png_bytep out, size_t count) {
      static_cast<PngSession*>(png_get_io_ptr(png))->Read(out, count);
    });
    // Sizes are ours to check; what no pixel depends on is skipped unread, compressed texts
    // included.
    png_set_user_limits(png_, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
    png_set_chunk_malloc_max(png_, kMaxChunkBytes);
    png_set_keep_unknown_chunks(png_, PNG_HANDLE_CHUNK_NEVER, nullptr, -1);
    png_read_info(png_, info_);
    // From here on only the compressed data follows; zlib notices damage there, and Pillow does not
    // look at its check sums.
    png_set_crc_action(png_, PNG_CRC_QUIET_USE, PNG_CRC_QUIET_USE);
    return true;
  }

  PngHeader header() const {
    return {png_get_image_width(png_, info_), png_get_image_height(png_, info_),
            png_get_bit_depth(png_, info_), png_get_color_type(png_, info_)};
  }

  /// The colours of the file, black beyond them.
  Palette palette() const {
    Palette colours{};
    png_colorp entries = nullptr;
    int count = 0;
    if (png_get_PLTE(png_, info_, &entries, &count) == 0) return colours;
    for (int i = 0; i < count && i < 256; ++i) {
      colours[i] = {entries[i].red, entries[i].green, entries[i].blue};
    }
    return colours;
  }

  /// Rows of `row_bytes` bytes: gray below 8 bits scaled to 0..255, palette indices one to a byte,
  /// alpha dropped, 16-bit colours cut to their high byte, 16-bit gray big-endian.
  bool ReadPixels(uint8_t* out, int64_t row_bytes) {
    if (setjmp(jump_) != 0) return false;
    const PngHeader header = this->header();
    const bool plain_gray = header.colour_type == PNG_COLOR_TYPE_GRAY;
    png_set_packing(png_);
    if (plain_gray && header.bits < 8) png_set_expand_gray_1_2_4_to_8(png_);
    if (!plain_gray && header.bits == 16) png_set_strip_16(png_);
    if ((header.colour_type & PNG_COLOR_MASK_ALPHA) != 0) png_set_strip_alpha(png_);
    const int passes = png_set_interlace_handling(png_);
    png_read_update_info(png_, info_);
    if (static_cast<int64_t>(png_get_rowbytes(png_, info_)) != row_bytes)
      Fail("unexpected row size");
    // Row by row: png_read_image wants a pointer to each, which is more than a narrow row takes.
    for (int pass = 0; pass < passes; ++pass) {
      for (int64_t y = 0; y < header.height; ++y) png_read_row(png_, out + y * row_bytes, nullptr);
    }
    return true;
  }

  const char* message() const { return message_; }

 private:
  [[noreturn]] void Fail(const char* message) {
    std::snprintf(message_, sizeof message_, "%s", message);
    std::longjmp(jump_, 1);
  }

  void Read(png_bytep out, size_t count) {
    if (count > encoded_.size() - position_) Fail("the file is truncated");
    std::memcpy(out, encoded_.data() + position_, count);
    position_ += count;
  }

  EncodedBytes encoded_;
  size_t position_ = 0;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
  std::jmp_buf jump_{};
  char message_[200] = {};
};

void RequireGood(bool good, const PngSession& session) {
  Require(good, ErrorKind::kImage, "broken PNG: ", session.message());
}

void ReadRows(PngSession& session, std::vector<uint8_t>& out, int64_t height) {
  const int64_t row_bytes = static_cast<int64_t>(out.size()) / height;
  RequireGood(session.ReadPixels(out.data(), row_bytes), session);
}

const char* ModeOf(const PngHeader& header) {
  switch (header.colour_type) {
    case PNG_COLOR_TYPE_GRAY:
      return header.bits == 1 ? "1" : header.bits == 16 ? "I;16" : "L";
    case PNG_COLOR_TYPE_GRAY_ALPHA:
      return header.bits == 16 ? "RGBA" : "LA";
    case PNG_COLOR_TYPE_PALETTE:
      return "P";
    case PNG_COLOR_TYPE_RGB_ALPHA:
      return "RGBA";
    default:
      return "RGB";
  }
}

}  // namespace

DecodedImage DecodePng(EncodedBytes encoded, const ImageLimits& limits) {
  PngSession session(encoded);
  RequireGood(session.ReadHeader(), session);
  const PngHeader header = session.header();
  CheckImageSize(header.width, header.height, limits);
  DecodedImage image = MakeImage(header.width, header.height, ModeOf(header));
  const int64_t pixels = header.width * header.height;
  if ((header.colour_type & PNG_COLOR_MASK_COLOR) != 0 &&
      (header.colour_type & PNG_COLOR_MASK_PALETTE) == 0) {
    ReadRows(session, image.rgb, header.height);
    return image;
  }
  const bool wide = header.colour_type == PNG_COLOR_TYPE_GRAY && header.bits == 16;
  std::vector<uint8_t> samples(static_cast<size_t>(wide ? pixels * 2 : pixels));
  ReadRows(session, samples, header.height);
  if (header.colour_type == PNG_COLOR_TYPE_PALETTE) {
    const Palette palette = session.palette();
    for (int64_t i = 0; i < pixels; ++i) SetPixel(image, i, palette[samples[i]]);
  } else if (wide) {
    for (int64_t i = 0; i < pixels; ++i) {
      SetGray(image, i, ClipGray16(samples[i * 2] << 8 | samples[i * 2 + 1]));
    }
  } else {
    for (int64_t i = 0; i < pixels; ++i) SetGray(image, i, samples[i]);
  }
  return image;
}

}  // namespace xcomposer
