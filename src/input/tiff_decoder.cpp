#include <tiffio.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

#include "base/check.h"
#include "base/checked_math.h"
#include "input/picture_formats.h"
#include "input/pixel_modes.h"
#include "input/tiff_directory.h"

namespace xcomposer {
namespace {

/// The bytes that libtiff reads, and the first thing it complained about.
struct TiffSource {
  EncodedBytes bytes;
  uint64_t position = 0;
  char message[300] = "no reason given";
  bool has_message = false;
  bool colour_map_lost = false;
};

tmsize_t ReadProc(thandle_t handle, void* out, tmsize_t count) {
  auto* source = static_cast<TiffSource*>(handle);
  if (count < 0 || source->position >= source->bytes.size()) return 0;
  const auto taken =
      std::min<uint64_t>(static_cast<uint64_t>(count), source->bytes.size() - source->position);
  std::memcpy(out, source->bytes.data() + source->position, taken);
  source->position += taken;
  return static_cast<tmsize_t>(taken);
}

toff_t SeekProc(thandle_t handle, toff_t offset, int whence) {
  auto* source = static_cast<TiffSource*>(handle);
  if (whence == SEEK_SET) source->position = offset;
  if (whence == SEEK_CUR) source->position += offset;
  if (whence == SEEK_END) source->position = source->bytes.size() + offset;
  return source->position;
}

toff_t SizeProc(thandle_t handle) { return static_cast<TiffSource*>(handle)->bytes.size(); }
int CloseProc(thandle_t) { return 0; }
tmsize_t WriteProc(thandle_t, void*, tmsize_t) { return 0; }

// With a mapping libtiff decodes from our bytes and allocates nothing for compressed data.
int MapProc(thandle_t handle, void** base, toff_t* size) {
  auto* source = static_cast<TiffSource*>(handle);
  *base = const_cast<std::byte*>(source->bytes.data());  // opened for reading: never written to
  *size = source->bytes.size();
  return 1;
}
void UnmapProc(thandle_t, void*, toff_t) {}

struct CloseTiff {
  void operator()(TIFF* tiff) const { TIFFClose(tiff); }
};
using TiffHandle = std::unique_ptr<TIFF, CloseTiff>;

#if TIFFLIB_VERSION >= 20221213  // 4.5.0: handlers and limits per file

int OnError(TIFF*, void* user, const char*, const char* format, va_list arguments) {
  auto* source = static_cast<TiffSource*>(user);
  if (!source->has_message) {
    std::vsnprintf(source->message, sizeof source->message, format, arguments);
  }
  source->has_message = true;
  return 1;
}

// Warnings are about tags that nobody needs, but for one: a palette picture whose colours cannot be
// read is turned into a gray one.
int OnWarning(TIFF*, void* user, const char*, const char* format, va_list arguments) {
  char text[300];
  std::vsnprintf(text, sizeof text, format, arguments);
  if (std::strstr(text, "ColorMap") != nullptr)
    static_cast<TiffSource*>(user)->colour_map_lost = true;
  return 1;
}

TiffHandle OpenTiff(TiffSource& source) {
  const std::unique_ptr<TIFFOpenOptions, decltype(&TIFFOpenOptionsFree)> options(
      TIFFOpenOptionsAlloc(), &TIFFOpenOptionsFree);
  if (options == nullptr) throw std::bad_alloc();
  // Tables of the file cannot be larger than the file; the codecs' own state is small.
  constexpr size_t kCodecBytes = 64 << 20;
  TIFFOpenOptionsSetMaxSingleMemAlloc(options.get(),
                                      static_cast<tmsize_t>(source.bytes.size() * 2 + kCodecBytes));
  TIFFOpenOptionsSetErrorHandlerExtR(options.get(), OnError, &source);
  TIFFOpenOptionsSetWarningHandlerExtR(options.get(), OnWarning, &source);
  return TiffHandle(TIFFClientOpenExt("picture", "r", &source, ReadProc, WriteProc, SeekProc,
                                      CloseProc, SizeProc, MapProc, UnmapProc, options.get()));
}

#else  // the handlers are the process's: quiet, so that a broken file writes nothing to stderr

TiffHandle OpenTiff(TiffSource& source) {
  TIFFSetErrorHandler(nullptr);
  TIFFSetWarningHandler(nullptr);
  return TiffHandle(TIFFClientOpen("picture", "r", &source, ReadProc, WriteProc, SeekProc,
                                   CloseProc, SizeProc, MapProc, UnmapProc));
}

#endif

struct TiffHeader {
  int64_t width = 0;
  int64_t height = 0;
  int bits = 1;
  int samples = 1;
  int photometric = -1;
  int compression = 1;
  int sample_format = 1;
  int orientation = 1;
  bool planar = false;
  int extra = -1;  // meaning of the first sample beyond the colours, -1: none
};

template <typename T>
T Field(TIFF* tiff, uint32_t tag, T otherwise) {
  T value{};
  return TIFFGetFieldDefaulted(tiff, tag, &value) == 1 ? value : otherwise;
}

TiffHeader ReadHeader(TIFF* tiff) {
  TiffHeader header;
  header.width = Field<uint32_t>(tiff, TIFFTAG_IMAGEWIDTH, 0);
  header.height = Field<uint32_t>(tiff, TIFFTAG_IMAGELENGTH, 0);
  header.bits = Field<uint16_t>(tiff, TIFFTAG_BITSPERSAMPLE, 1);
  header.samples = Field<uint16_t>(tiff, TIFFTAG_SAMPLESPERPIXEL, 1);
  header.photometric = Field<uint16_t>(tiff, TIFFTAG_PHOTOMETRIC, PHOTOMETRIC_MINISWHITE);
  header.compression = Field<uint16_t>(tiff, TIFFTAG_COMPRESSION, COMPRESSION_NONE);
  header.sample_format = Field<uint16_t>(tiff, TIFFTAG_SAMPLEFORMAT, SAMPLEFORMAT_UINT);
  header.orientation = Field<uint16_t>(tiff, TIFFTAG_ORIENTATION, ORIENTATION_TOPLEFT);
  header.planar =
      Field<uint16_t>(tiff, TIFFTAG_PLANARCONFIG, PLANARCONFIG_CONTIG) == PLANARCONFIG_SEPARATE &&
      header.samples > 1;
  uint16_t count = 0;
  uint16_t* kinds = nullptr;
  if (TIFFGetFieldDefaulted(tiff, TIFFTAG_EXTRASAMPLES, &count, &kinds) == 1 && count > 0) {
    header.extra = kinds[0];
  }
  return header;
}

void CheckCompression(const TiffHeader& header) {
  switch (header.compression) {
    case COMPRESSION_NONE:
    case COMPRESSION_LZW:
    case COMPRESSION_PACKBITS:
    case COMPRESSION_ADOBE_DEFLATE:
    case COMPRESSION_DEFLATE:
      return;
    default:
      throw Error(ErrorKind::kImage, StrCat("unsupported TIFF: compression ", header.compression,
                                            ", expected none, LZW, PackBits or deflate"));
  }
}

/// Pillow's mode for the layouts that are supported; an error for all others.
const char* ModeOf(const TiffHeader& header, bool big_endian) {
  const bool small = header.bits == 1 || header.bits == 2 || header.bits == 4 || header.bits == 8;
  if (header.sample_format == SAMPLEFORMAT_UINT) {
    switch (header.photometric) {
      case PHOTOMETRIC_MINISWHITE:
      case PHOTOMETRIC_MINISBLACK: {
        const bool inverted = header.photometric == PHOTOMETRIC_MINISWHITE;
        if (header.samples == 1 && small) return header.bits == 1 ? "1" : "L";
        if (header.samples == 1 && header.bits == 16 && !(inverted && big_endian)) return "I;16";
        if (header.samples == 2 && header.bits == 8 && !inverted) {
          if (header.extra == EXTRASAMPLE_UNASSALPHA) return "LA";
          if (header.extra == EXTRASAMPLE_UNSPECIFIED) return "L";
        }
        break;
      }
      case PHOTOMETRIC_RGB:
        if (header.bits == 8 && header.samples == 3) return "RGB";
        if (header.bits == 8 && header.samples == 4) {
          return header.extra == EXTRASAMPLE_UNSPECIFIED ? "RGB" : "RGBA";
        }
        break;
      case PHOTOMETRIC_PALETTE:
        if (header.samples == 1 && small) return "P";
        break;
      case PHOTOMETRIC_SEPARATED:
        if (header.bits == 8 && header.samples == 4) return "CMYK";
        break;
      default:
        break;
    }
  }
  throw Error(
      ErrorKind::kImage,
      StrCat("unsupported TIFF: photometric interpretation ", header.photometric, " with ",
             header.samples, " samples of ", header.bits, " bits (sample format ",
             header.sample_format, ", extra samples ", header.extra,
             "); expected gray of up to 16 bits, palette, or RGB, RGBA and CMYK of 8 bits"));
}

/// All samples as bytes, (height, width, samples): small ones as they are, 16-bit gray clipped.
class SampleReader {
 public:
  SampleReader(TIFF* tiff, const TiffHeader& header, const TiffSource& source)
      : tiff_(tiff), header_(header), source_(source), tiled_(TIFFIsTiled(tiff) != 0) {}

  std::vector<uint8_t> Read(const ImageLimits& limits) {
    ReadBlockSize(limits);
    if (tiled_) CheckTiles(limits);
    CheckBlockBytes(limits);
    out_.resize(static_cast<size_t>(header_.width * header_.height * header_.samples));
    block_.resize(static_cast<size_t>(row_bytes_ * block_height_));
    for (int plane = 0; plane < (header_.planar ? header_.samples : 1); ++plane) {
      for (int64_t y = 0; y < header_.height; y += block_height_) {
        for (int64_t x = 0; x < header_.width; x += block_width_) ReadBlock(x, y, plane);
      }
    }
    return std::move(out_);
  }

 private:
  void ReadBlockSize(const ImageLimits& limits) {
    block_width_ = header_.width;
    block_height_ =
        std::min<int64_t>(header_.height, Field<uint32_t>(tiff_, TIFFTAG_ROWSPERSTRIP, 0));
    if (tiled_) {
      block_width_ = Field<uint32_t>(tiff_, TIFFTAG_TILEWIDTH, 0);
      block_height_ = Field<uint32_t>(tiff_, TIFFTAG_TILELENGTH, 0);
    }
    CheckImageSize(block_width_, block_height_, limits);
    samples_in_block_ = header_.planar ? 1 : header_.samples;
    row_bytes_ = (block_width_ * samples_in_block_ * header_.bits + 7) / 8;
    const auto expected = tiled_ ? TIFFTileRowSize64(tiff_) : TIFFScanlineSize64(tiff_);
    Require(static_cast<int64_t>(expected) == row_bytes_, ErrorKind::kImage,
            "broken TIFF: a row should take ", row_bytes_, " bytes, not ", expected);
  }

  // Tiles may reach far beyond the picture, and all of each is decoded.
  void CheckTiles(const ImageLimits& limits) const {
    const int64_t width = (header_.width + block_width_ - 1) / block_width_ * block_width_;
    const int64_t height = (header_.height + block_height_ - 1) / block_height_ * block_height_;
    const auto pixels = CheckedMul(width, height);
    Require(pixels && *pixels <= limits.max_pixels, ErrorKind::kImage, "tiles of ", block_width_,
            " x ", block_height_, " pixels cover ", width, " x ", height, " for a picture of ",
            header_.width, " x ", header_.height, ", the limit is ", limits.max_pixels, " in all");
  }

  // Blocks may share their bytes, and compressed bytes may stand for no pixel.
  void CheckBlockBytes(const ImageLimits& limits) const {
    const uint32_t blocks = tiled_ ? TIFFNumberOfTiles(tiff_) : TIFFNumberOfStrips(tiff_);
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < blocks; ++i) {
      bytes += std::min<uint64_t>(TIFFGetStrileByteCount(tiff_, i), source_.bytes.size());
      Require(bytes <= static_cast<uint64_t>(limits.max_bytes), ErrorKind::kImage, "the first ",
              i + 1, " strips or tiles of the TIFF take ", bytes, " bytes, the limit is ",
              limits.max_bytes, " as for a file: they overlap");
    }
  }

  void ReadBlock(int64_t x, int64_t y, int plane) {
    const int64_t rows = tiled_ ? block_height_ : std::min(block_height_, header_.height - y);
    const auto bytes = static_cast<tmsize_t>(rows * row_bytes_);
    const auto left = static_cast<uint32_t>(x);
    const auto top = static_cast<uint32_t>(y);
    const auto sample = static_cast<uint16_t>(plane);
    const tmsize_t got =
        tiled_ ? TIFFReadEncodedTile(tiff_, TIFFComputeTile(tiff_, left, top, 0, sample),
                                     block_.data(), bytes)
               : TIFFReadEncodedStrip(tiff_, TIFFComputeStrip(tiff_, top, sample), block_.data(),
                                      bytes);
    Require(got == bytes, ErrorKind::kImage, "broken or truncated TIFF: ", source_.message);
    const int64_t last_row = std::min(rows, header_.height - y);
    for (int64_t row = 0; row < last_row; ++row)
      CopyRow(x, y + row, plane, &block_[row * row_bytes_]);
  }

  void CopyRow(int64_t x, int64_t y, int plane, const uint8_t* row) {
    const int64_t columns = std::min(block_width_, header_.width - x);
    uint8_t* out = &out_[((y * header_.width) + x) * header_.samples + plane];
    const int64_t step = header_.planar ? header_.samples : 1;
    for (int64_t i = 0; i < columns * samples_in_block_; ++i) {
      if (header_.bits == 16) {  // libtiff has put the bytes into this machine's order
        uint16_t value = 0;
        std::memcpy(&value, row + i * 2, sizeof value);
        out[i * step] = ClipGray16(value);
      } else {
        out[i * step] = static_cast<uint8_t>(PackedSample(row, i, header_.bits));
      }
    }
  }

  TIFF* tiff_;
  const TiffHeader& header_;
  const TiffSource& source_;
  bool tiled_;
  int64_t block_width_ = 0;
  int64_t block_height_ = 0;
  int64_t samples_in_block_ = 0;
  int64_t row_bytes_ = 0;
  std::vector<uint8_t> block_;
  std::vector<uint8_t> out_;
};

Palette ReadPalette(TIFF* tiff, int bits) {
  uint16_t* channels[3] = {};
  Require(TIFFGetField(tiff, TIFFTAG_COLORMAP, &channels[0], &channels[1], &channels[2]) == 1,
          ErrorKind::kImage, "broken TIFF: a palette picture without colour map");
  Palette palette{};
  for (int i = 0; i < 1 << bits; ++i) {
    for (int c = 0; c < 3; ++c) palette[i][c] = static_cast<uint8_t>(channels[c][i] >> 8);
  }
  return palette;
}

uint8_t GrayOf(const TiffHeader& header, int sample) {
  if (header.bits == 16) return static_cast<uint8_t>(sample);  // Pillow never inverts these
  const int max = (1 << header.bits) - 1;
  const int level = header.photometric == PHOTOMETRIC_MINISWHITE ? max - sample : sample;
  return static_cast<uint8_t>(level * 255 / max);
}

void Convert(const TiffHeader& header, TIFF* tiff, const std::vector<uint8_t>& samples,
             DecodedImage& image) {
  const Palette palette =
      header.photometric == PHOTOMETRIC_PALETTE ? ReadPalette(tiff, header.bits) : Palette{};
  const bool premultiplied = header.photometric == PHOTOMETRIC_RGB && header.samples == 4 &&
                             header.extra == EXTRASAMPLE_ASSOCALPHA;
  for (int64_t i = 0; i < header.width * header.height; ++i) {
    const uint8_t* in = &samples[i * header.samples];
    if (header.photometric == PHOTOMETRIC_PALETTE) {
      SetPixel(image, i, palette[in[0]]);
    } else if (header.photometric == PHOTOMETRIC_SEPARATED) {
      SetPixel(image, i, CmykToRgb(in));
    } else if (premultiplied) {
      SetPixel(
          image, i,
          {Unpremultiply(in[0], in[3]), Unpremultiply(in[1], in[3]), Unpremultiply(in[2], in[3])});
    } else if (header.photometric == PHOTOMETRIC_RGB) {
      SetPixel(image, i, {in[0], in[1], in[2]});
    } else {
      SetGray(image, i, GrayOf(header, in[0]));
    }
  }
}

/// Turns the picture as its orientation tag (1 to 8) asks; values beyond mean nothing.
DecodedImage Oriented(DecodedImage image, int orientation) {
  if (orientation < 2 || orientation > 8) return image;
  const bool swap = orientation >= 5;
  const bool flip_columns =
      orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  const bool flip_rows =
      orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  DecodedImage out = MakeImage(swap ? image.height : image.width, swap ? image.width : image.height,
                               image.mode.c_str());
  for (int64_t y = 0; y < out.height; ++y) {
    for (int64_t x = 0; x < out.width; ++x) {
      int64_t column = swap ? y : x;
      int64_t row = swap ? x : y;
      if (flip_columns) column = image.width - 1 - column;
      if (flip_rows) row = image.height - 1 - row;
      const uint8_t* in = &image.rgb[(row * image.width + column) * 3];
      SetPixel(out, y * out.width + x, {in[0], in[1], in[2]});
    }
  }
  return out;
}

}  // namespace

DecodedImage DecodeTiff(EncodedBytes encoded, const ImageLimits& limits) {
  CheckTiffDirectory(encoded);
  TiffSource source{encoded};
  const TiffHandle tiff = OpenTiff(source);
  Require(tiff != nullptr, ErrorKind::kImage, "broken TIFF: ", source.message);
  Require(!source.colour_map_lost, ErrorKind::kImage, "broken TIFF: its colour map cannot be read");
  const TiffHeader header = ReadHeader(tiff.get());
  CheckImageSize(header.width, header.height, limits);
  CheckCompression(header);
  const char* mode = ModeOf(header, TIFFIsBigEndian(tiff.get()) != 0);
  const std::vector<uint8_t> samples = SampleReader(tiff.get(), header, source).Read(limits);
  DecodedImage image = MakeImage(header.width, header.height, mode);
  Convert(header, tiff.get(), samples, image);
  return Oriented(std::move(image), header.orientation);
}

}  // namespace xcomposer
