#include "input/tiling.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "config/model_descriptions.h"
#include "xcomposer/error.h"

namespace xcomposer {
namespace {

PictureRule Rule(const std::string& kind, int64_t hd_num) {
  PictureRule rule = PictureRuleFor(kind, 490);
  rule.hd_num = hd_num;
  return rule;
}

ErrorKind KindOfLayoutError(int64_t width, int64_t height, const PictureRule& rule) {
  try {
    LayoutFor(width, height, rule);
  } catch (const Error& error) {
    return error.kind();
  }
  ADD_FAILURE() << "no error for " << width << " x " << height;
  return ErrorKind::kInternal;
}

TEST(Tiling, RulesOfTheKinds) {
  EXPECT_EQ(PictureRuleFor("2-4khd-7b", 0).hd_num, 25);
  EXPECT_EQ(PictureRuleFor("2.5-7b-4bit", 0).hd_num, 24);
  EXPECT_EQ(PictureRuleFor("2.5-7b", 0).tile, 560);
  EXPECT_EQ(PictureRuleFor("2-7b", 224).tile, 224);
  EXPECT_EQ(PictureRuleFor("2-vl-1.8b", 490).style, PictureRule::Style::kSquare);
  EXPECT_THROW(PictureRuleFor("2-7bee", 224), Error);
  EXPECT_THROW(PictureRuleFor("2-7b", 225), Error);
  EXPECT_THROW(PictureRuleFor("", 224), Error);
}

TEST(Tiling, TheDescribedKindsHaveTheRulesNumbers) {
  for (const Kind kind : {Kind::k4khd7b, Kind::k25_7b}) {
    EXPECT_EQ(PictureRuleFor(ToString(kind), 0).hd_num, ModelDescription(kind).Int("chat.hd_num"))
        << ToString(kind);
  }
}

TEST(Tiling, SquareKindsHaveOneView) {
  EXPECT_EQ(LayoutFor(3, 1000, PictureRuleFor("2-7b", 224)).rows, 256);
  const PictureLayout layout = LayoutFor(1, 20000, PictureRuleFor("2-vl-7b", 490));
  EXPECT_EQ(layout.rows, 1225);
  EXPECT_EQ(layout.width, 490);
  EXPECT_EQ(layout.height, 490);
}

TEST(Tiling, ExamplesOfTheModelSpecification) {
  struct Example {
    int64_t width, height;
    std::string kind;
    int64_t hd_num, padded_width, padded_height, rows;
  };
  const std::vector<Example> examples = {
      {640, 480, "2-4khd-7b", 25, 1680, 1344, 3085},
      {480, 640, "2-4khd-7b", 55, 2016, 2688, 7165},
      {336, 336, "2-4khd-7b", 25, 1680, 1680, 3817},
      {3840, 2160, "2-4khd-7b", 55, 3024, 2016, 8005},
      {100, 900, "2-4khd-7b", 25, 672, 4032, 3757},
      {2000, 300, "2-4khd-7b", 55, 6048, 1008, 7969},
      {640, 480, "2.5-7b", 24, 1120, 1120, 2061},
      {336, 336, "2.5-7b", 24, 560, 560, 841},
      {3840, 2160, "2.5-7b", 24, 3360, 2240, 10101},
      {100, 900, "2.5-7b", 24, 560, 1120, 1261},
      {2000, 300, "2.5-7b", 24, 2240, 560, 2041},
  };
  for (const Example& e : examples) {
    const PictureLayout layout = LayoutFor(e.width, e.height, Rule(e.kind, e.hd_num));
    SCOPED_TRACE(std::to_string(e.width) + " x " + std::to_string(e.height) + " " + e.kind);
    EXPECT_EQ(layout.width, e.padded_width);
    EXPECT_EQ(layout.height, e.padded_height);
    EXPECT_EQ(layout.rows, e.rows);
    EXPECT_EQ(layout.transposed, e.width < e.height);
  }
}

TEST(Tiling, APictureThatWouldVanishIsRefused) {
  for (const char* kind : {"2-4khd-7b", "2.5-7b"}) {
    const PictureRule rule = PictureRuleFor(kind, 0);
    EXPECT_EQ(KindOfLayoutError(1, 20000, rule), ErrorKind::kImage);
    EXPECT_EQ(KindOfLayoutError(20000, 1, rule), ErrorKind::kImage);
    EXPECT_EQ(KindOfLayoutError(0, 5, rule), ErrorKind::kImage);
    EXPECT_EQ(KindOfLayoutError(5, 5, Rule(kind, 0)), ErrorKind::kRequest);
    EXPECT_EQ(KindOfLayoutError(5, 5, Rule(kind, int64_t{1} << 60)), ErrorKind::kRequest);
  }
}

// The picture between the two passes of resizing is as wide as a tile and as high as the source.
TEST(Tiling, ASquarePictureTooNarrowToBeResizedIsRefused) {
  PictureRule rule = PictureRuleFor("2-vl-7b", 490);
  EXPECT_EQ(LayoutFor(1, 361'000, rule).rows, 1225);
  EXPECT_EQ(LayoutFor(30'000'000, 1, rule).rows, 1225);
  EXPECT_EQ(KindOfLayoutError(1, 362'000, rule), ErrorKind::kImage);
  EXPECT_EQ(KindOfLayoutError(34'000'000, 1, rule), ErrorKind::kImage);
  EXPECT_EQ(KindOfLayoutError(1, int64_t{1} << 62, rule), ErrorKind::kImage);
  EXPECT_EQ(KindOfLayoutError(int64_t{1} << 62, 1, rule), ErrorKind::kImage);
  rule.max_pixels = int64_t{1} << 40;
  EXPECT_EQ(LayoutFor(1, 60'000'000, rule).rows, 1225);
  rule.max_pixels = 10;  // ordinary pictures are resized whatever the limit on pictures is
  EXPECT_EQ(LayoutFor(1, 33'000, rule).rows, 1225);
  EXPECT_EQ(KindOfLayoutError(1, 35'000, rule), ErrorKind::kImage);
}

TEST(Tiling, WithinHdNumAndCoveredByTiles) {
  for (const char* kind : {"2-4khd-7b", "2.5-7b"}) {
    for (const int64_t hd_num : {1, 2, 5, 16, 25, 55}) {
      for (const int64_t width : {1, 7, 336, 561, 1999}) {
        for (const int64_t height : {1, 40, 559, 3000}) {
          const PictureRule rule = Rule(kind, hd_num);
          PictureLayout l;
          try {
            l = LayoutFor(width, height, rule);
          } catch (const Error& error) {
            EXPECT_EQ(error.kind(), ErrorKind::kImage);
            continue;
          }
          SCOPED_TRACE(std::to_string(width) + " x " + std::to_string(height));
          EXPECT_LE(l.tile_rows * l.tile_columns, hd_num);
          EXPECT_EQ(l.width, l.tile_columns * rule.tile);
          EXPECT_EQ(l.height, l.tile_rows * rule.tile);
          EXPECT_GT(l.content_width * l.content_height, 0);
          EXPECT_LE(l.content_x + l.content_width, l.width);
          EXPECT_LE(l.content_y + l.content_height, l.height);
          EXPECT_EQ(l.rows, TiledRows(rule.tile, l.tile_rows, l.tile_columns));
        }
      }
    }
  }
}

TEST(TilingGoldens, EveryRowOfTheReferenceIsReproduced) {
  for (const char* kind : {"2-4khd-7b", "2.5-7b"}) {
    const std::string path =
        std::string(XCOMPOSER_SHARED_DIR) + "/data/goldens/" + kind + "/tiling.json";
    if (!std::filesystem::exists(path)) GTEST_SKIP() << "no reference goldens at " << path;
    const auto json = nlohmann::json::parse(std::ifstream(path));
    ASSERT_FALSE(json["rows"].empty());
    for (const auto& row : json["rows"]) {
      const std::vector<int64_t> v = row;
      const PictureLayout l = LayoutFor(v[0], v[1], Rule(kind, v[2]));
      const std::vector<int64_t> found = {v[0],
                                          v[1],
                                          v[2],
                                          l.width,
                                          l.height,
                                          l.content_x,
                                          l.content_y,
                                          l.content_x + l.content_width,
                                          l.content_y + l.content_height};
      EXPECT_EQ(found, v) << kind;
    }
  }
}

}  // namespace
}  // namespace xcomposer
