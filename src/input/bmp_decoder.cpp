#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "base/check.h"
#include "input/picture_formats.h"
#include "input/picture_reader.h"
#include "input/pixel_modes.h"

/// BMP as Pillow reads it, its quirks included: a palette that only repeats the index is dropped,
/// and the rows are then taken as 8-bit gray (1-bit where it has at most two colours).
namespace xcomposer {
namespace {

constexpr int64_t kFileHeaderBytes = 14;
enum Compression : int64_t { kRaw = 0, kRle8 = 1, kRle4 = 2, kBitFields = 3 };

struct BmpHeader {
  int64_t size = 0;  // of the header after the file header
  int64_t width = 0;
  int64_t height = 0;
  bool top_down = false;
  int64_t bits = 0;
  int64_t compression = kRaw;
  int64_t colours = 0;
  int64_t palette_entry = 4;  // bytes per colour
  int64_t pixels_at = 0;
  std::array<int64_t, 4> masks{};  // red, green, blue, alpha
};

void ReadCoreHeader(PictureReader& in, BmpHeader& header) {
  header.width = in.U16();
  header.height = in.U16();
  in.Skip(2);
  header.bits = in.U16();
  header.palette_entry = 3;
}

void ReadMasks(PictureReader& in, BmpHeader& header) {
  const bool has_alpha = header.size >= 56;
  for (int i = 0; i < (has_alpha ? 4 : 3); ++i) header.masks[i] = in.U32();
}

void ReadInfoHeader(PictureReader& in, BmpHeader& header) {
  header.width = in.U32();
  header.height = in.U32();
  header.top_down = header.height >> 24 == 0xFF;
  if (header.top_down) header.height = (int64_t{1} << 32) - header.height;
  in.Skip(2);
  header.bits = in.U16();
  header.compression = in.U32();
  in.Skip(12);
  header.colours = in.U32();
  in.Skip(4);
  if (header.compression == kBitFields) ReadMasks(in, header);
}

BmpHeader ReadHeader(PictureReader& in) {
  BmpHeader header;
  in.Skip(10);
  header.pixels_at = in.U32();
  header.size = in.U32();
  constexpr std::array<int64_t, 6> kInfoSizes = {40, 52, 56, 64, 108, 124};
  if (header.size == 12) {
    ReadCoreHeader(in, header);
  } else if (std::find(kInfoSizes.begin(), kInfoSizes.end(), header.size) != kInfoSizes.end()) {
    ReadInfoHeader(in, header);
  } else {
    throw Error(ErrorKind::kImage, StrCat("unsupported BMP: a header of ", header.size,
                                          " bytes, expected 12, 40, 52, 56, "
                                          "64, 108 or 124"));
  }
  const int64_t end = kFileHeaderBytes + header.size;
  if (in.position() < end) in.Seek(end);
  if (header.colours == 0 && header.bits < 32) header.colours = int64_t{1} << header.bits;
  if (header.pixels_at == end && header.bits <= 8) {
    header.pixels_at += header.palette_entry * header.colours;
  }
  return header;
}

/// How the bytes of one pixel become RGB, for 16, 24 and 32 bits.
struct DirectLayout {
  int red = 2;  // byte of a pixel
  int green = 1;
  int blue = 0;
  bool green_has_six_bits = false;  // 16 bits only
  const char* mode = "RGB";
};

DirectLayout LayoutOfMasks(const BmpHeader& header) {
  using Masks = std::array<int64_t, 4>;
  const Masks& masks = header.masks;
  const Masks colour_only = {masks[0], masks[1], masks[2], 0};
  if (header.bits == 16 && colour_only == Masks{0xF800, 0x7E0, 0x1F, 0}) return {2, 1, 0, true};
  if (header.bits == 16 && colour_only == Masks{0x7C00, 0x3E0, 0x1F, 0}) return {};
  if (header.bits == 24 && colour_only == Masks{0xFF0000, 0xFF00, 0xFF, 0}) return {};
  if (header.bits == 32) {
    if (masks == Masks{0xFF0000, 0xFF00, 0xFF, 0}) return {};
    if (masks == Masks{0xFF000000, 0xFF0000, 0xFF00, 0}) return {3, 2, 1};
    if (masks == Masks{0xFF000000, 0xFF00, 0xFF, 0}) return {3, 1, 0};
    if (masks == Masks{0xFF000000, 0xFF0000, 0xFF00, 0xFF}) return {3, 2, 1, false, "RGBA"};
    if (masks == Masks{0xFF, 0xFF00, 0xFF0000, 0xFF000000}) return {0, 1, 2, false, "RGBA"};
    if (masks == Masks{0xFF0000, 0xFF00, 0xFF, 0xFF000000}) return {2, 1, 0, false, "RGBA"};
    if (masks == Masks{0xFF000000, 0xFF00, 0xFF, 0xFF0000}) return {3, 1, 0, false, "RGBA"};
    if (masks == Masks{0, 0, 0, 0}) return {2, 1, 0, false, "RGBA"};
  }
  throw Error(ErrorKind::kImage, StrCat("unsupported BMP: ", header.bits,
                                        " bits with an unusual arrangement of the colour masks"));
}

/// Hands the rows of raw pixels to `use(row, y)`, y counted from the top. Only the last row may
/// lack its padding.
template <typename Use>
void ForEachRow(PictureReader& in, const BmpHeader& header, int64_t row_bits, Use use) {
  const int64_t stride = (header.width * header.bits + 31) / 32 * 4;
  const int64_t row_bytes = (header.width * row_bits + 7) / 8;
  Require(row_bytes <= stride, ErrorKind::kImage,
          "unsupported BMP: rows shorter than their gray pixels");
  in.Seek(header.pixels_at);
  for (int64_t row = 0; row < header.height; ++row) {
    const auto bytes = in.Take(row_bytes);
    in.Skip(std::min(stride - row_bytes, in.remaining()));
    use(reinterpret_cast<const uint8_t*>(bytes.data()),
        header.top_down ? row : header.height - 1 - row);
  }
}

DecodedImage ReadDirect(PictureReader& in, const BmpHeader& header) {
  Require(header.compression == kRaw || header.compression == kBitFields, ErrorKind::kImage,
          "unsupported BMP: compression ", header.compression, " with ", header.bits, " bits");
  const DirectLayout layout =
      header.compression == kBitFields ? LayoutOfMasks(header) : DirectLayout{};
  DecodedImage image = MakeImage(header.width, header.height, layout.mode);
  const int64_t bytes = header.bits / 8;
  ForEachRow(in, header, header.bits, [&](const uint8_t* row, int64_t y) {
    for (int64_t x = 0; x < header.width; ++x, row += bytes) {
      const int64_t at = y * header.width + x;
      if (bytes > 2) {
        SetPixel(image, at, {row[layout.red], row[layout.green], row[layout.blue]});
        continue;
      }
      const int pixel = row[0] | row[1] << 8;
      const int green_bits = layout.green_has_six_bits ? 6 : 5;
      const int green_max = (1 << green_bits) - 1;
      SetPixel(image, at,
               {static_cast<uint8_t>((pixel >> (5 + green_bits) & 31) * 255 / 31),
                static_cast<uint8_t>((pixel >> 5 & green_max) * 255 / green_max),
                static_cast<uint8_t>((pixel & 31) * 255 / 31)});
    }
  });
  return image;
}

struct Colours {
  Palette palette{};
  std::string mode;  // "P", or "1" and "L" where the palette says nothing
};

Colours ReadPalette(PictureReader& in, const BmpHeader& header) {
  Require(header.colours > 0 && header.colours <= 65536, ErrorKind::kImage,
          "broken BMP: a palette of ", header.colours, " colours");
  Colours colours;
  bool gray = true;
  const auto table = in.Take(std::min(header.palette_entry * header.colours, in.remaining()));
  const auto* bytes = reinterpret_cast<const uint8_t*>(table.data());
  const auto complete = static_cast<int64_t>(table.size()) / header.palette_entry;
  for (int64_t i = 0; i < header.colours; ++i) {
    if (i >= complete) {
      gray = false;
      break;
    }
    const uint8_t* bgr = bytes + i * header.palette_entry;
    const int64_t level = header.colours == 2 ? i * 255 : i;
    gray = gray && bgr[0] == level && bgr[1] == level && bgr[2] == level;
    if (i < 256) colours.palette[i] = {bgr[2], bgr[1], bgr[0]};
  }
  colours.mode = !gray ? "P" : header.colours <= 2 ? "1" : "L";
  return colours;
}

void SetIndexed(DecodedImage& image, int64_t at, int sample, const Colours& colours) {
  if (colours.mode == "P") {
    SetPixel(image, at, colours.palette[sample]);
  } else if (colours.mode == "L") {
    SetGray(image, at, static_cast<uint8_t>(sample));
  } else {
    SetGray(image, at, sample != 0 ? 255 : 0);
  }
}

/// Run-length coded indices, in file order. Runs end at the end of a row; what a delta jumps over
/// is 0.
std::vector<uint8_t> ReadRuns(PictureReader& in, const BmpHeader& header) {
  const int64_t wanted = header.width * header.height;
  const bool nibbles = header.compression == kRle4;
  std::vector<uint8_t> data;
  data.reserve(static_cast<size_t>(std::min(wanted, in.remaining() * 128)));
  const auto count = [&] { return static_cast<int64_t>(data.size()); };
  int64_t x = 0;
  while (count() < wanted && in.remaining() >= 2) {
    int64_t run = in.U8();
    const int64_t value = in.U8();
    if (run > 0) {
      run = std::min(run, std::max<int64_t>(0, header.width - x));
      for (int64_t i = 0; i < run; ++i) {
        const int64_t pixel = !nibbles ? value : i % 2 == 0 ? value >> 4 : value & 15;
        data.push_back(static_cast<uint8_t>(pixel));
      }
      x += run;
    } else if (value == 0) {
      while (count() % header.width != 0) data.push_back(0);
      x = 0;
    } else if (value == 1) {
      break;
    } else if (value == 2) {
      if (in.remaining() < 2) break;
      const int64_t right = in.U8();
      const int64_t up = in.U8();
      const int64_t jump = std::min(wanted - count(), right + up * header.width);
      data.resize(data.size() + static_cast<size_t>(jump));
      x = count() % header.width;
    } else {
      const int64_t literal = std::min(wanted - count(), value);
      const int64_t bytes = nibbles ? (literal + 1) / 2 : literal;
      if (in.remaining() < bytes) break;
      const auto taken = in.Take(bytes);
      const auto* packed = reinterpret_cast<const uint8_t*>(taken.data());
      for (int64_t i = 0; i < literal; ++i) {
        data.push_back(static_cast<uint8_t>(PackedSample(packed, i, nibbles ? 4 : 8)));
      }
      if (count() == wanted) break;
      x += value;
      if (in.position() % 2 != 0 && in.remaining() > 0) in.Skip(1);
    }
  }
  Require(count() >= wanted, ErrorKind::kImage, "truncated BMP: ", count(), " of ", wanted,
          " run-length coded pixels");
  return data;
}

DecodedImage ReadIndexed(PictureReader& in, const BmpHeader& header) {
  const Colours colours = ReadPalette(in, header);
  BmpHeader placed = header;
  if (placed.pixels_at == 0) placed.pixels_at = in.position();
  if (header.compression == kRle8 || header.compression == kRle4) {
    in.Seek(placed.pixels_at);
    const std::vector<uint8_t> runs = ReadRuns(in, header);
    DecodedImage image = MakeImage(header.width, header.height, colours.mode.c_str());
    for (int64_t row = 0; row < header.height; ++row) {
      const int64_t y = header.top_down ? row : header.height - 1 - row;
      for (int64_t x = 0; x < header.width; ++x) {
        SetIndexed(image, y * header.width + x, runs[row * header.width + x], colours);
      }
    }
    return image;
  }
  Require(header.compression == kRaw, ErrorKind::kImage, "unsupported BMP: compression ",
          header.compression, " with ", header.bits, " bits");
  const int bits = colours.mode == "1"   ? 1
                   : colours.mode == "L" ? 8
                                         : static_cast<int>(header.bits);
  DecodedImage image = MakeImage(header.width, header.height, colours.mode.c_str());
  ForEachRow(in, placed, bits, [&](const uint8_t* row, int64_t y) {
    for (int64_t x = 0; x < header.width; ++x) {
      SetIndexed(image, y * header.width + x, PackedSample(row, x, bits), colours);
    }
  });
  return image;
}

}  // namespace

DecodedImage DecodeBmp(EncodedBytes encoded, const ImageLimits& limits) {
  PictureReader in(encoded);
  BmpHeader header = ReadHeader(in);
  CheckImageSize(header.width, header.height, limits);
  switch (header.bits) {
    case 1:
    case 4:
    case 8:
      return ReadIndexed(in, header);
    case 16:
    case 24:
    case 32:
      if (header.pixels_at == 0) header.pixels_at = in.position();
      return ReadDirect(in, header);
    default:
      throw Error(ErrorKind::kImage, StrCat("unsupported BMP: ", header.bits,
                                            " bits per pixel, expected 1, 4, 8, 16, 24 or 32"));
  }
}

}  // namespace xcomposer
