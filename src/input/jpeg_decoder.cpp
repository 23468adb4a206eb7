// jpeglib.h needs the two headers before it.
// clang-format off
#include <cstddef>
#include <cstdio>
#include <jpeglib.h>
// clang-format on

#include <csetjmp>
#include <string>
#include <vector>

#include "base/check.h"
#include "input/picture_formats.h"
#include "input/pixel_modes.h"

namespace xcomposer {
namespace {

// A progressive file repeats the whole picture in every scan, and an empty scan costs a few bytes.
// Real encoders use about ten.
constexpr int kMaxScans = 200;

/// One decompressor of libjpeg. Its errors leave by longjmp, so no function that calls setjmp may
/// hold objects with destructors; it returns false instead, and message() says why.
class JpegSession {
 public:
  explicit JpegSession(EncodedBytes encoded) {
    info_.err = jpeg_std_error(&errors_);
    errors_.error_exit = [](j_common_ptr info) {
      auto* self = static_cast<JpegSession*>(info->client_data);
      info->err->format_message(info, self->message_);
      std::longjmp(self->jump_, kBroken);
    };
    errors_.emit_message = [](j_common_ptr, int) {
    };  // Damaged data is kept as it is, like Pillow does.
    errors_.output_message = [](j_common_ptr) {};
    info_.client_data = this;
    progress_.progress_monitor = [](j_common_ptr info) {
      auto* self = static_cast<JpegSession*>(info->client_data);
      if (self->info_.input_scan_number > kMaxScans) self->Fail("more than 200 scans");
    };
    source_.next_input_byte = reinterpret_cast<const JOCTET*>(encoded.data());
    source_.bytes_in_buffer = encoded.size();
    source_.init_source = [](j_decompress_ptr) {};
    source_.fill_input_buffer = [](j_decompress_ptr info) -> boolean {
      static_cast<JpegSession*>(info->client_data)->FailTruncated();
      return FALSE;
    };
    source_.skip_input_data = [](j_decompress_ptr info, long count) {
      if (count <= 0) return;
      if (static_cast<size_t>(count) > info->src->bytes_in_buffer) {
        static_cast<JpegSession*>(info->client_data)->FailTruncated();
      }
      info->src->next_input_byte += count;
      info->src->bytes_in_buffer -= static_cast<size_t>(count);
    };
    source_.resync_to_restart = jpeg_resync_to_restart;
    source_.term_source = [](j_decompress_ptr) {};
  }
  ~JpegSession() { jpeg_destroy_decompress(&info_); }
  JpegSession(const JpegSession&) = delete;
  JpegSession& operator=(const JpegSession&) = delete;

  bool ReadHeader() {
    if (setjmp(jump_) != 0) return false;
    jpeg_create_decompress(&info_);
    info_.src = &source_;
    info_.progress = &progress_;
    jpeg_read_header(&info_, TRUE);
    return true;
  }

  /// All rows of `samples` bytes per pixel. Behind them the end mark may be missing, as in Pillow.
  bool ReadPixels(J_COLOR_SPACE space, int samples, uint8_t* out) {
    switch (setjmp(jump_)) {
      case 0:
        break;
      case kTruncated:
        return info_.output_scanline >= info_.image_height;
      default:
        return false;
    }
    info_.out_color_space = space;
    jpeg_start_decompress(&info_);
    if (info_.output_components != samples) Fail("unexpected number of components");
    while (info_.output_scanline < info_.output_height) {
      JSAMPROW row = out + static_cast<size_t>(info_.output_scanline) * info_.output_width *
                               static_cast<size_t>(samples);
      jpeg_read_scanlines(&info_, &row, 1);
    }
    jpeg_finish_decompress(&info_);
    return true;
  }

  int64_t width() const { return info_.image_width; }
  int64_t height() const { return info_.image_height; }
  int components() const { return info_.num_components; }
  int bits() const { return info_.data_precision; }
  const char* message() const { return message_; }

 private:
  static constexpr int kBroken = 1;
  static constexpr int kTruncated = 2;

  [[noreturn]] void Fail(const char* message, int why = kBroken) {
    std::snprintf(message_, sizeof message_, "%s", message);
    std::longjmp(jump_, why);
  }
  [[noreturn]] void FailTruncated() { Fail("the file is truncated", kTruncated); }

  jpeg_decompress_struct info_{};
  jpeg_error_mgr errors_{};
  jpeg_progress_mgr progress_{};
  jpeg_source_mgr source_{};
  std::jmp_buf jump_{};
  char message_[JMSG_LENGTH_MAX] = {};
};

void RequireGood(bool good, const JpegSession& session) {
  Require(good, ErrorKind::kImage, "broken JPEG: ", session.message());
}

DecodedImage ReadGray(JpegSession& session) {
  DecodedImage image = MakeImage(session.width(), session.height(), "L");
  std::vector<uint8_t> gray(image.rgb.size() / 3);
  RequireGood(session.ReadPixels(JCS_GRAYSCALE, 1, gray.data()), session);
  for (size_t i = 0; i < gray.size(); ++i) SetGray(image, static_cast<int64_t>(i), gray[i]);
  return image;
}

// Four inks are taken as inverted, the convention of Adobe's programs.
DecodedImage ReadCmyk(JpegSession& session) {
  DecodedImage image = MakeImage(session.width(), session.height(), "CMYK");
  std::vector<uint8_t> inks(image.rgb.size() / 3 * 4);
  RequireGood(session.ReadPixels(JCS_CMYK, 4, inks.data()), session);
  for (uint8_t& ink : inks) ink = static_cast<uint8_t>(255 - ink);
  for (size_t i = 0; i < inks.size() / 4; ++i) {
    SetPixel(image, static_cast<int64_t>(i), CmykToRgb(&inks[i * 4]));
  }
  return image;
}

}  // namespace

DecodedImage DecodeJpeg(EncodedBytes encoded, const ImageLimits& limits) {
  JpegSession session(encoded);
  RequireGood(session.ReadHeader(), session);
  CheckImageSize(session.width(), session.height(), limits);
  Require(session.bits() == 8, ErrorKind::kImage, "unsupported JPEG: ", session.bits(),
          " bits per sample, expected 8");
  switch (session.components()) {
    case 1:
      return ReadGray(session);
    case 3: {
      DecodedImage image = MakeImage(session.width(), session.height(), "RGB");
      RequireGood(session.ReadPixels(JCS_RGB, 3, image.rgb.data()), session);
      return image;
    }
    case 4:
      return ReadCmyk(session);
    default:
      throw Error(ErrorKind::kImage, StrCat("unsupported JPEG: ", session.components(),
                                            " components, expected 1, 3 or 4"));
  }
}

}  // namespace xcomposer
