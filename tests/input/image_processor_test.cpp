#include "input/image_processor.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "input/image_decoder.h"
#include "input/sha256.h"
#include "xcomposer/error.h"

namespace xcomposer {
namespace {

Picture Plain(int64_t width, int64_t height, uint8_t level) {
  return {width, height, std::vector<uint8_t>(static_cast<size_t>(width * height * 3), level)};
}

/// The rectangle of pixels that are not white must be the layout's content.
void ExpectWhiteAround(const Picture& picture, const PictureLayout& layout) {
  ASSERT_EQ(picture.width, layout.width);
  ASSERT_EQ(picture.height, layout.height);
  for (int64_t y = 0; y < picture.height; ++y) {
    for (int64_t x = 0; x < picture.width; ++x) {
      const bool inside = x >= layout.content_x && x < layout.content_x + layout.content_width &&
                          y >= layout.content_y && y < layout.content_y + layout.content_height;
      const int level = picture.rgb[(y * picture.width + x) * 3];
      ASSERT_EQ(level, inside ? 9 : 255) << x << ", " << y;
    }
  }
}

TEST(ImageProcessor, PadsWithWhiteWhereTheLayoutSays) {
  for (const char* kind : {"2-4khd-7b", "2.5-7b"}) {
    PictureRule rule = PictureRuleFor(kind, 0);
    rule.hd_num = 4;
    for (const auto& [width, height] :
         std::vector<std::pair<int64_t, int64_t>>{{90, 40}, {40, 90}}) {
      ExpectWhiteAround(ProcessPicture(Plain(width, height, 9), rule),
                        LayoutFor(width, height, rule));
    }
  }
}

TEST(ImageProcessor, TransposedPicturesAreTransposedResults) {
  Picture wide = Plain(50, 20, 0);
  for (size_t i = 0; i < wide.rgb.size(); ++i) wide.rgb[i] = static_cast<uint8_t>(i * 7);
  Picture tall = Plain(20, 50, 0);
  for (int64_t y = 0; y < 20; ++y) {
    for (int64_t x = 0; x < 50; ++x) {
      for (int64_t c = 0; c < 3; ++c) {
        tall.rgb[(x * 20 + y) * 3 + c] = wide.rgb[(y * 50 + x) * 3 + c];
      }
    }
  }
  PictureRule rule = PictureRuleFor("2-4khd-7b", 0);
  rule.hd_num = 3;
  const Picture a = ProcessPicture(wide, rule);
  const Picture b = ProcessPicture(tall, rule);
  ASSERT_EQ(a.width, b.height);
  for (int64_t y = 0; y < a.height; ++y) {
    for (int64_t x = 0; x < a.width; ++x) {
      ASSERT_EQ(a.rgb[(y * a.width + x) * 3], b.rgb[(x * b.width + y) * 3]);
    }
  }
}

TEST(ImageProcessor, PixelsMustFitTheSize) {
  Picture picture = Plain(4, 4, 0);
  picture.rgb.pop_back();
  try {
    ProcessPicture(picture, PictureRuleFor("2-7b", 224));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kImage);
  }
  const PixelView overflowing(int64_t{1} << 40, int64_t{1} << 40, picture.rgb);
  EXPECT_THROW(ProcessPicture(overflowing, PictureRuleFor("2-7b", 224)), Error);
}

std::string Digest(const std::vector<uint8_t>& pixels) {
  return Sha256({reinterpret_cast<const char*>(pixels.data()), pixels.size()});
}

class ImageGoldens : public testing::TestWithParam<const char*> {};

// Every picture of every case: decoded, then resized and padded, equal to the reference's.
TEST_P(ImageGoldens, PicturesEqualTheReference) {
  if (!HasImageDecoders()) GTEST_SKIP() << "this build decodes no pictures";
  namespace fs = std::filesystem;
  const fs::path data = fs::path(XCOMPOSER_SHARED_DIR) / "data";
  const fs::path folder = data / "goldens" / GetParam();
  if (!fs::exists(folder / "cases.json")) GTEST_SKIP() << "no reference goldens in " << folder;
  const auto cases = nlohmann::json::parse(std::ifstream(folder / "cases.json"));
  const auto config = nlohmann::json::parse(std::ifstream(folder / "model" / "config.json"));
  int64_t compared = 0;
  for (const auto& one : cases) {
    const auto images = one.value("images", nlohmann::json());
    for (size_t i = 0; i < images.size(); ++i) {
      const std::string prefix = "image" + std::to_string(i) + ".";
      if (!one.contains(prefix + "rgb_sha256") || one.contains(prefix + "video")) continue;
      SCOPED_TRACE(one["name"].get<std::string>() + " " + prefix);
      const std::string name = images[i];
      const fs::path file = fs::exists(data / name) ? data / name : folder / name;
      const DecodedImage image = LoadImage(file.string());
      if (one.contains(prefix + "decoded_sha256")) {
        EXPECT_EQ(Digest(image.rgb), one[prefix + "decoded_sha256"].get<std::string>());
      }
      PictureRule rule = PictureRuleFor(GetParam(), config.value("img_size", int64_t{0}));
      rule.hd_num = one.value("chat", nlohmann::json::object()).value("hd_num", rule.hd_num);
      if (rule.style == PictureRule::Style::k25 && images.size() > 1) {
        rule.hd_num = kHdNumOfSeveralPictures;
      }
      const Picture picture = ProcessPicture(image, rule);
      EXPECT_EQ(Digest(picture.rgb), one[prefix + "rgb_sha256"].get<std::string>());
      const PictureLayout layout = LayoutFor(image.width, image.height, rule);
      const std::vector<int64_t> size = {layout.width, layout.height};
      EXPECT_EQ(one[prefix + "size"].get<std::vector<int64_t>>(), size);
      if (one.contains(prefix + "rows")) {
        EXPECT_EQ(layout.rows, one[prefix + "rows"].get<int64_t>());
      }
      ++compared;
    }
  }
  EXPECT_GT(compared, 0);
}

INSTANTIATE_TEST_SUITE_P(Kinds, ImageGoldens,
                         testing::Values("2-7b", "2-vl-7b", "2-vl-7b-fullvocab", "2-4khd-7b",
                                         "2.5-7b", "2.5-7b-ntk", "2-vl-7b-4bit", "2.5-7b-4bit"));

}  // namespace
}  // namespace xcomposer
