#include "input/image_decoder.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "input/sha256.h"
#include "xcomposer/error.h"

namespace xcomposer {
namespace {

const std::string kFolder = std::string(XCOMPOSER_SOURCE_DIR) + "/tests/input/pictures/";

struct Expected {
  std::string file;
  std::string mode;
  int64_t width = 0;
  int64_t height = 0;
  std::string sha256;
};

std::vector<Expected> ReadExpected() {
  std::ifstream in(kFolder + "expected.txt");
  std::vector<Expected> rows;
  Expected row;
  while (in >> row.file >> row.mode >> row.width >> row.height >> row.sha256) rows.push_back(row);
  return rows;
}

std::vector<std::byte> ReadPicture(const std::string& file) {
  const std::string text = ReadImageFile(kFolder + file, ImageLimits{});
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

std::span<const std::byte> AsBytes(const std::string& text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

std::string Digest(const std::vector<uint8_t>& pixels) {
  return Sha256({reinterpret_cast<const char*>(pixels.data()), pixels.size()});
}

/// Decodes; any failure must be a typed error about a picture. True where it could be decoded.
bool Survives(std::span<const std::byte> encoded) {
  ImageLimits limits;
  limits.max_pixels = 1 << 22;
  try {
    const DecodedImage image = DecodeImage(encoded, limits, "test");
    EXPECT_EQ(static_cast<int64_t>(image.rgb.size()), image.width * image.height * 3);
    return true;
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kImage) << error.what();
    return false;
  }
}

std::string MessageOf(std::span<const std::byte> encoded, const ImageLimits& limits = {}) {
  try {
    DecodeImage(encoded, limits, "test");
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kImage);
    EXPECT_EQ(error.where().at("image"), "test");
    return error.what();
  }
  return "";
}

TEST(ImageDecoder, EveryKindOfPictureIsWhatPillowMakesOfIt) {
  const std::vector<Expected> rows = ReadExpected();
  ASSERT_GT(rows.size(), 130u);
  for (const Expected& row : rows) {
    SCOPED_TRACE(row.file);
    const DecodedImage image = LoadImage(kFolder + row.file);
    EXPECT_EQ(image.width, row.width);
    EXPECT_EQ(image.height, row.height);
    EXPECT_EQ(image.mode, row.mode);
    EXPECT_EQ(Digest(image.rgb), row.sha256);
  }
}

TEST(ImageDecoder, HalfAFileIsAnErrorAndNotAHalfPicture) {
  for (const Expected& row : ReadExpected()) {
    SCOPED_TRACE(row.file);
    if (row.file == "animated.gif") continue;  // its first frame ends before the middle
    const std::vector<std::byte> bytes = ReadPicture(row.file);
    EXPECT_FALSE(Survives(std::span(bytes).first(bytes.size() / 2)));
  }
}

// Pillow takes a JPEG without its end mark where the bytes suffice to decode every row
// (expected.txt has such a one); its decoder wants bytes behind the last pixel.
TEST(ImageDecoder, AJpegMayLackItsEndMarkButNotItsLastBytes) {
  const std::vector<std::byte> whole = ReadPicture("420.jpg");
  const auto without_mark = std::span(whole).first(whole.size() - 2);
  EXPECT_NE(MessageOf(without_mark).find("truncated"), std::string::npos);
  // All scans of a progressive file are read before its first row.
  std::vector<std::byte> progressive = ReadPicture("420_progressive.jpg");
  std::fill_n(progressive.end() - 2, 2, std::byte{0});
  EXPECT_NE(MessageOf(progressive).find("truncated"), std::string::npos);
}

TEST(ImageDecoder, EveryPrefixAndEveryChangedByteIsSurvived) {
  uint32_t state = 1;
  for (const Expected& row : ReadExpected()) {
    SCOPED_TRACE(row.file);
    const std::vector<std::byte> bytes = ReadPicture(row.file);
    const size_t step = bytes.size() / 40 + 1;
    for (size_t at = 0; at < bytes.size(); at += step) {
      Survives(std::span(bytes).first(at));
      std::vector<std::byte> changed = bytes;
      state = state * 1664525 + 1013904223;
      changed[at] = static_cast<std::byte>(state >> 24);
      Survives(changed);
    }
  }
}

TEST(ImageDecoder, TheContentDecidesAndNotTheName) {
  for (const Expected& row : ReadExpected()) {
    const std::string extension = row.file.substr(row.file.rfind('.'));
    const ImageFormat format = extension == ".png"   ? ImageFormat::kPng
                               : extension == ".bmp" ? ImageFormat::kBmp
                               : extension == ".gif" ? ImageFormat::kGif
                               : extension == ".tif" ? ImageFormat::kTiff
                               : extension == ".jpg" ? ImageFormat::kJpeg
                                                     : ImageFormat::kWebp;
    EXPECT_EQ(SniffImageFormat(ReadPicture(row.file)), format) << row.file;
  }
  EXPECT_EQ(SniffImageFormat(AsBytes("RIFF1234WAVEfmt ")), ImageFormat::kUnknown);
  EXPECT_NE(MessageOf(AsBytes("<svg></svg>")).find("known kind"), std::string::npos);
  EXPECT_NE(MessageOf({}).find("empty"), std::string::npos);
}

// A header may announce anything; nothing of that size may be allocated before it is checked.
TEST(ImageDecoder, SizesAreCheckedBeforeAnythingIsDecoded) {
  const auto with = [](const std::string& file, size_t at, const std::string& replacement) {
    std::vector<std::byte> bytes = ReadPicture(file);
    const auto patch = AsBytes(replacement);
    std::copy(patch.begin(), patch.end(), bytes.begin() + static_cast<ptrdiff_t>(at));
    return bytes;
  };
  const std::string huge_le("\xff\xff\xff\x6f", 4);
  const std::vector<std::vector<std::byte>> bombs = {
      with("24bit.bmp", 18, huge_le + huge_le),
      with("8bit.gif", 6, "\xff\xff\xff\xff"),
      with("full_dictionary.gif", 6, "\xff\xff\xff\xff"),
      with("partial_first_frame.webp", 24, "\xff\xff\xff\xff\xff\xff"),
  };
  for (size_t i = 0; i < bombs.size(); ++i) {
    EXPECT_NE(MessageOf(bombs[i]).find("too large"), std::string::npos) << i << MessageOf(bombs[i]);
  }
  const ImageLimits exact{11 * 9, 1 << 20};
  EXPECT_EQ(MessageOf(ReadPicture("type2_8bit.png"), exact), "");
  const ImageLimits one_less{11 * 9 - 1, 1 << 20};
  EXPECT_NE(MessageOf(ReadPicture("type2_8bit.png"), one_less).find("the limit is 98"),
            std::string::npos);
  for (const char* file :
       {"420.jpg", "lossy.webp", "animated.webp", "rgb.tif", "8bit.gif", "rle8.bmp"}) {
    EXPECT_NE(MessageOf(ReadPicture(file), ImageLimits{10, 1 << 20}).find("too large"),
              std::string::npos)
        << file;
  }
}

TEST(ImageDecoder, PicturesWithoutPixelsAreRefused) {
  std::vector<std::byte> bmp = ReadPicture("24bit.bmp");
  std::fill_n(bmp.begin() + 18, 4, std::byte{0});
  EXPECT_NE(MessageOf(bmp).find("no pixels"), std::string::npos);
}

TEST(ImageDecoder, FilesBeyondTheByteLimitAreRefused) {
  const ImageLimits limits{1 << 20, 100};
  EXPECT_NE(MessageOf(ReadPicture("420.jpg"), limits).find("the limit is 100"), std::string::npos);
  try {
    LoadImage(kFolder + "420.jpg", limits);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kImage);
  }
}

TEST(ImageDecoder, WhatIsNoFileIsATypedError) {
  for (const std::string& path : {kFolder, kFolder + "missing.png", std::string("/dev/zero")}) {
    try {
      LoadImage(path);
      ADD_FAILURE() << path;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kImage);
      EXPECT_EQ(error.where().at("image"), path);
    }
  }
}

TEST(ImageDecoder, WhyAFileCannotBeReadIsSaid) {
  const std::filesystem::path link =
      std::filesystem::temp_directory_path() /
      ("xcomposer_link_to_itself_" + std::to_string(getpid()) + ".png");
  std::filesystem::create_symlink(link.filename(), link);
  try {
    LoadImage(link.string());
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find(std::strerror(ELOOP)), std::string::npos)
        << error.what();
    EXPECT_EQ(error.where().at("image"), link.string());
  }
  std::filesystem::remove(link);
}

// Libraries report a defect through callbacks; the first words of it should reach the user.
TEST(ImageDecoder, ErrorsSayWhatIsWrong) {
  std::vector<std::byte> jpeg = ReadPicture("420.jpg");
  jpeg.resize(jpeg.size() - 10);
  EXPECT_NE(MessageOf(jpeg).find("truncated"), std::string::npos);
  std::vector<std::byte> png = ReadPicture("type2_8bit.png");
  png[20] ^= std::byte{0xff};
  EXPECT_NE(MessageOf(png).find("broken PNG: "), std::string::npos);
}

}  // namespace
}  // namespace xcomposer
