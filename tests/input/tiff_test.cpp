#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "input/image_decoder.h"
#include "xcomposer/error.h"

namespace xcomposer {
namespace {

constexpr int64_t kByte = 1;
constexpr int64_t kLong = 4;
constexpr int64_t kUnknownTag = 40000;

struct Tag {
  int64_t number;
  int64_t type;
  int64_t count;
  int64_t value;  // of one number; otherwise the place of the values in the payload
};

/// The layout of a file: its byte order, and whether it is a BigTIFF.
struct Form {
  bool big_endian = false;
  bool big = false;
};

class Writer {
 public:
  explicit Writer(const Form& form) : form_(form) {}

  void Number(int64_t value, int64_t size) {
    for (int64_t i = 0; i < size; ++i) {
      const int64_t at = form_.big_endian ? size - 1 - i : i;
      text += static_cast<char>(value >> (8 * at) & 0xff);
    }
  }
  void Offset(int64_t value) { Number(value, form_.big ? 8 : 4); }

  std::string text;

 private:
  Form form_;
};

int64_t PayloadAt(const Form& form) { return form.big ? 16 : 8; }

/// A file of `payload`, followed by a directory with `tags`.
std::string MakeTiff(const Form& form, const std::string& payload, const std::vector<Tag>& tags) {
  Writer out(form);
  out.text = form.big_endian ? "MM" : "II";
  out.Number(form.big ? 43 : 42, 2);
  if (form.big) out.Number(8, 2);
  if (form.big) out.Number(0, 2);
  const int64_t payload_at = PayloadAt(form);
  out.Offset(payload_at + static_cast<int64_t>(payload.size()));
  out.text += payload;
  out.Number(static_cast<int64_t>(tags.size()), form.big ? 8 : 2);
  for (const Tag& tag : tags) {
    out.Number(tag.number, 2);
    out.Number(tag.type, 2);
    out.Offset(tag.count);
    if (tag.type == kLong && tag.count == 1) {
      out.Number(tag.value, 4);
      if (form.big) out.Number(0, 4);
    } else {
      out.Offset(payload_at + tag.value);
    }
  }
  out.Offset(0);
  return out.text;
}

/// 16 gray pixels that begin the payload, with further tags.
std::string MakeGray(const Form& form, const std::string& payload, const std::vector<Tag>& more) {
  std::vector<Tag> tags = {
      {256, kLong, 1, 16}, {257, kLong, 1, 1}, {258, kLong, 1, 8},
      {259, kLong, 1, 1},  {262, kLong, 1, 1}, {273, kLong, 1, PayloadAt(form)},
      {277, kLong, 1, 1},  {278, kLong, 1, 1}, {279, kLong, 1, 16}};
  tags.insert(tags.end(), more.begin(), more.end());
  return MakeTiff(form, payload, tags);
}

constexpr int64_t kTileHeight = 1008;
constexpr int64_t kTiles = 4;

/// 64 x 1 gray pixels in four tiles of 16 x 1008 that share their bytes.
std::string MakeTiled() {
  const Form form;
  Writer payload(form);
  for (int64_t i = 0; i < kTiles; ++i) payload.Number(PayloadAt(form) + kTiles * 8, 4);
  for (int64_t i = 0; i < kTiles; ++i) payload.Number(16 * kTileHeight, 4);
  payload.text.append(16 * kTileHeight, '\7');
  return MakeTiff(form, payload.text,
                  {{256, kLong, 1, 64},
                   {257, kLong, 1, 1},
                   {258, kLong, 1, 8},
                   {259, kLong, 1, 1},
                   {262, kLong, 1, 1},
                   {277, kLong, 1, 1},
                   {322, kLong, 1, 16},
                   {323, kLong, 1, kTileHeight},
                   {324, kLong, kTiles, 0},
                   {325, kLong, kTiles, kTiles * 4}});
}

DecodedImage Decode(const std::string& file, const ImageLimits& limits = {}) {
  return DecodeImage(std::as_bytes(std::span(file.data(), file.size())), limits, "test");
}

std::string Refusal(const std::string& file, const ImageLimits& limits = {}) {
  try {
    Decode(file, limits);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kImage);
    EXPECT_EQ(error.where().at("image"), "test");
    return error.what();
  }
  return "decoded";
}

const std::vector<Form> kForms = {{}, {.big_endian = true}, {.big = true}, {true, true}};

// libtiff copies the values of every tag while it opens a file.
TEST(Tiff, TagsThatShareTheirBytesAreRefused) {
  const std::string payload(1000, '\5');
  for (const Form& form : kForms) {
    SCOPED_TRACE(testing::Message() << form.big_endian << form.big);
    EXPECT_EQ(Decode(MakeGray(form, payload, {{kUnknownTag, kByte, 1000, 0}})).rgb,
              std::vector<uint8_t>(48, 5));
    const std::vector<Tag> twice = {{kUnknownTag, kByte, 1000, 0},
                                    {kUnknownTag + 1, kLong, 250, 0}};
    EXPECT_NE(Refusal(MakeGray(form, payload, twice)).find("they overlap"), std::string::npos);
  }
}

// Damaged tags that nobody needs do not spoil a picture.
TEST(Tiff, TagsWithValuesBeyondTheFileAreLeftOut) {
  const std::string payload(16, '\5');
  for (const Form& form : kForms) {
    const std::vector<Tag> beyond = {{kUnknownTag, kByte, 0x7fffffff, 0},
                                     {kUnknownTag + 1, kByte, 20, 0x70000000},
                                     {kUnknownTag + 2, 99, 20, 0}};
    EXPECT_EQ(Decode(MakeGray(form, payload, beyond)).rgb, std::vector<uint8_t>(48, 5));
  }
}

TEST(Tiff, ADirectoryBeyondTheFileIsRefused) {
  for (const Form& form : kForms) {
    std::string file = MakeGray(form, std::string(16, '\5'), {});
    EXPECT_NE(Refusal(file.substr(0, file.size() - 30)).find("truncated"), std::string::npos);
    std::fill_n(file.begin() + (form.big ? 8 : 4), form.big ? 8 : 4, '\xff');
    EXPECT_NE(Refusal(file).find("truncated"), std::string::npos);
  }
}

TEST(Tiff, AllOfTheTilesCountsAgainstTheLimit) {
  const std::string file = MakeTiled();
  ImageLimits limits;
  limits.max_pixels = 64 * kTileHeight;
  EXPECT_EQ(Decode(file, limits).rgb, std::vector<uint8_t>(64 * 3, 7));
  limits.max_pixels -= 1;
  EXPECT_NE(Refusal(file, limits).find("cover 64 x 1008 for a picture of 64 x 1"),
            std::string::npos);
}

// A file of no-operations that thousands of strips share takes hours to decode.
TEST(Tiff, BytesThatBlocksShareCountOncePerBlock) {
  const std::string file = MakeTiled();
  ImageLimits limits;
  limits.max_bytes = kTiles * 16 * kTileHeight;
  EXPECT_EQ(Decode(file, limits).width, 64);
  limits.max_bytes -= 1;
  EXPECT_NE(Refusal(file, limits).find("they overlap"), std::string::npos);
}

}  // namespace
}  // namespace xcomposer
