#include "input/video.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "input/font.h"
#include "input/sha256.h"
#include "xcomposer/error.h"

namespace xcomposer {
namespace {

namespace fs = std::filesystem;

const PictureRule kRule = PictureRuleFor("2.5-7b", 0);
const fs::path kGoldens = fs::path(XCOMPOSER_SHARED_DIR) / "data" / "goldens" / "2.5-7b";

/// A folder of its own that goes with the test.
class FrameFolder : public testing::Test {
 protected:
  void SetUp() override {
    folder_ =
        fs::path(testing::TempDir()) /
        (std::string("frames_") + testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  void Write(const std::string& name, const std::string& content) {
    std::ofstream(folder_ / name, std::ios::binary) << content;
  }
  /// A 2 x 1 gray picture as BMP.
  static std::string Bmp(char level) {
    std::string file("BM\0\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\2\0\0\0\1\0\0\0\1\0\x18\0", 30);
    file.append(24, '\0');
    file.append(6, level);
    file.append(2, '\0');
    return file;
  }
  /// The same, 1 x 2.
  static std::string UprightBmp(char level) {
    std::string file("BM\0\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\1\0\0\0\2\0\0\0\1\0\x18\0", 30);
    file.append(24, '\0');
    for (int row = 0; row < 2; ++row) file.append(3, level).append(1, '\0');
    return file;
  }

  fs::path folder_;
};

TEST_F(FrameFolder, FramesAreSortedByNumber) {
  for (const char* name : {"10.png", "9.png", "002.bmp", "notes.txt", "1a.png"}) Write(name, "");
  Write("fps.txt", " 29.97\n");
  const FrameFiles video = ReadFrameFolder(folder_.string());
  EXPECT_DOUBLE_EQ(video.fps, 29.97);
  ASSERT_EQ(video.files.size(), 3u);
  EXPECT_EQ(fs::path(video.files[0]).filename(), "002.bmp");
  EXPECT_EQ(fs::path(video.files[1]).filename(), "9.png");
  EXPECT_EQ(fs::path(video.files[2]).filename(), "10.png");
}

TEST_F(FrameFolder, WhatIsMissingIsNamed) {
  const auto message = [&] {
    try {
      ReadFrameFolder(folder_.string());
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kImage);
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_NE(message().find("no frames"), std::string::npos);
  Write("0.png", "");
  EXPECT_NE(message().find("fps.txt"), std::string::npos);
  Write("fps.txt", "fast");
  EXPECT_NE(message().find("one number"), std::string::npos);
  Write("fps.txt", "25 fps");
  EXPECT_NE(message().find("one number"), std::string::npos);
  fs::remove_all(folder_);
  EXPECT_NE(message().find("cannot be read"), std::string::npos);
}

TEST_F(FrameFolder, FramesAreDrawnAndSeparated) {
  if (!HasImageDecoders()) GTEST_SKIP() << "this build decodes no pictures";
  Write("0.bmp", Bmp('\x20'));
  Write("1.bmp", Bmp('\x40'));
  Write("fps.txt", "1");
  const DrawnCanvas video = DrawVideoCanvas(ReadFrameFolder(folder_.string()), {});
  const Picture& canvas = video.canvas;
  ASSERT_EQ(canvas.width, 1120);
  ASSERT_EQ(canvas.height, 2 * (560 + 50));
  const auto level = [&](int64_t y) { return static_cast<int>(canvas.rgb[y * 1120 * 3]); };
  EXPECT_EQ(level(39), 255);
  EXPECT_EQ(level(40), 0x20);
  EXPECT_EQ(level(599), 0x20);
  EXPECT_EQ(level(604), 255);
  EXPECT_EQ(level(605), 0);  // the line
  EXPECT_EQ(level(606), 0);
  EXPECT_EQ(level(607), 255);
  EXPECT_EQ(level(650), 0x40);
  EXPECT_EQ(level(1215), 255);  // none after the last frame
  ASSERT_EQ(video.warnings.size(), 1u);
  EXPECT_NE(video.warnings[0].find("font"), std::string::npos);
}

TEST_F(FrameFolder, UprightFramesStandSideBySide) {
  if (!HasImageDecoders()) GTEST_SKIP() << "this build decodes no pictures";
  Write("0.bmp", UprightBmp('\x20'));
  Write("1.bmp", UprightBmp('\x40'));
  Write("fps.txt", "1");
  const DrawnCanvas video = DrawVideoCanvas(ReadFrameFolder(folder_.string()), {});
  const Picture& canvas = video.canvas;
  ASSERT_EQ(canvas.width, 2 * (560 + 10));
  ASSERT_EQ(canvas.height, 1120 + 40);
  const auto level = [&](int64_t x, int64_t y) {
    return static_cast<int>(canvas.rgb[static_cast<size_t>((y * canvas.width + x) * 3)]);
  };
  EXPECT_EQ(level(0, 39), 255);
  EXPECT_EQ(level(0, 40), 0x20);
  EXPECT_EQ(level(559, 1159), 0x20);
  EXPECT_EQ(level(560, 40), 255);
  EXPECT_EQ(level(564, 40), 255);
  for (const int64_t y : {0, 39, 600, 1159}) {  // the line, over the full height
    EXPECT_EQ(level(565, y), 0);
    EXPECT_EQ(level(566, y), 0);
  }
  EXPECT_EQ(level(567, 40), 255);
  EXPECT_EQ(level(570, 39), 255);
  EXPECT_EQ(level(570, 40), 0x40);
  EXPECT_EQ(level(1129, 1159), 0x40);
  EXPECT_EQ(level(1130, 40), 255);
  EXPECT_EQ(level(1135, 40), 255);  // none after the last frame
}

TEST_F(FrameFolder, AFontThatIsNoneIsARequestError) {
  if (!HasImageDecoders()) GTEST_SKIP() << "this build decodes no pictures";
  Write("0.bmp", Bmp('\x20'));
  Write("fps.txt", "1");
  try {
    VideoOptions options;
    options.font_file = (folder_ / "fps.txt").string();
    DrawVideoCanvas(ReadFrameFolder(folder_.string()), options);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kRequest);
    EXPECT_EQ(error.where().count("font"), 1u);
  }
}

TEST(Video, HalfAFrameIsRoundedToEven) {
  EXPECT_EQ(SampleFrames(7, 2.5), (std::vector<int64_t>{0, 2, 4, 6}));
  EXPECT_EQ(SampleFrames(7, 3.5), (std::vector<int64_t>{0, 4}));
  EXPECT_EQ(SampleFrames(2, 1e300), (std::vector<int64_t>{0}));
}

TEST(Video, ImpossibleRatesAreRefused) {
  for (const double fps :
       {0.5, 0.0, -25.0, std::nan(""), std::numeric_limits<double>::infinity()}) {
    EXPECT_THROW(SampleFrames(10, fps), Error) << fps;
  }
  EXPECT_THROW(SampleFrames(0, 25), Error);
}

TEST(Video, FramesThatWouldVanishAreRefused) {
  const std::vector<FrameSize> frames = {{1, 2000}};
  EXPECT_THROW(CanvasLayoutFor(frames), Error);
  EXPECT_THROW(CanvasLayoutFor({}), Error);
}

TEST(Video, OtherKindsTakeNone) {
  EXPECT_THROW(CanvasPictureLayout(1120, 2040, PictureRuleFor("2-4khd-7b", 0)), Error);
}

nlohmann::json ReadGolden(const char* file) {
  return nlohmann::json::parse(std::ifstream(kGoldens / file));
}

TEST(VideoGoldens, SamplingEqualsTheReference) {
  if (!fs::exists(kGoldens)) GTEST_SKIP() << "no reference goldens in " << kGoldens;
  const auto rows = ReadGolden("tiling.json")["video_sampling"];
  ASSERT_FALSE(rows.empty());
  for (const auto& row : rows) {
    SCOPED_TRACE(row.dump());
    if (row.contains("error")) {
      EXPECT_THROW(SampleFrames(row["frames"], row["fps"]), Error);
    } else {
      EXPECT_EQ(SampleFrames(row["frames"], row["fps"]),
                row["indices"].get<std::vector<int64_t>>());
    }
  }
}

TEST(VideoGoldens, CanvasSizesEqualTheReference) {
  if (!fs::exists(kGoldens)) GTEST_SKIP() << "no reference goldens in " << kGoldens;
  const auto rows = ReadGolden("tiling.json")["video_canvas"];
  ASSERT_FALSE(rows.empty());
  for (const auto& row : rows) {
    std::vector<FrameSize> frames;
    for (const auto& size : row["frame_sizes"]) frames.push_back({size[0], size[1]});
    const CanvasLayout canvas = CanvasLayoutFor(frames);
    EXPECT_EQ((std::vector<int64_t>{canvas.width, canvas.height}),
              row["canvas"].get<std::vector<int64_t>>());
    const PictureLayout layout = CanvasPictureLayout(canvas.width, canvas.height, kRule);
    EXPECT_EQ((std::vector<int64_t>{layout.width, layout.height}),
              row["padded"].get<std::vector<int64_t>>());
  }
}

// Outside of the label bands, 40 pixels above each frame.
TEST(VideoGoldens, TheCanvasEqualsTheReference) {
  if (!HasImageDecoders()) GTEST_SKIP() << "this build decodes no pictures";
  if (!fs::exists(kGoldens)) GTEST_SKIP() << "no reference goldens in " << kGoldens;
  const DrawnCanvas video = DrawVideoCanvas(ReadFrameFolder((kGoldens / "gen/clip").string()), {});
  const DecodedImage golden = LoadImage((kGoldens / "gen/clip_canvas.png").string());
  ASSERT_EQ(video.canvas.width, golden.width);
  ASSERT_EQ(video.canvas.height, golden.height);
  const int64_t slot = golden.height / 5;
  for (int64_t y = 0; y < golden.height; ++y) {
    if (y % slot < 40) continue;
    const auto row = [&](const std::vector<uint8_t>& rgb) {
      return std::vector<uint8_t>(rgb.begin() + y * golden.width * 3,
                                  rgb.begin() + (y + 1) * golden.width * 3);
    };
    ASSERT_EQ(row(video.canvas.rgb), row(golden.rgb)) << "row " << y;
  }
}

TEST(VideoGoldens, LabelsLookLikeTheReferences) {
  const std::string font = "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf";
  if (!HasImageDecoders() || !HasFontRenderer()) GTEST_SKIP() << "this build draws no labels";
  if (!fs::exists(font)) GTEST_SKIP() << "the golden's font is not installed: " << font;
  if (!fs::exists(kGoldens)) GTEST_SKIP() << "no reference goldens in " << kGoldens;
  VideoOptions options;
  options.font_file = font;
  const DrawnCanvas video =
      DrawVideoCanvas(ReadFrameFolder((kGoldens / "gen/clip").string()), options);
  EXPECT_TRUE(video.warnings.empty());
  const DecodedImage golden = LoadImage((kGoldens / "gen/clip_canvas.png").string());
  ASSERT_EQ(video.canvas.rgb.size(), golden.rgb.size());
  int64_t far = 0;
  for (size_t i = 0; i < golden.rgb.size(); ++i) {
    far += std::abs(golden.rgb[i] - video.canvas.rgb[i]) > 32;
  }
  // Releases of FreeType differ in shades along the edges; a glyph that is off by a pixel differs
  // in hundreds of samples.
  EXPECT_LT(far, 200);
}

TEST(VideoGoldens, TheLastResizeEqualsTheReference) {
  if (!HasImageDecoders()) GTEST_SKIP() << "this build decodes no pictures";
  if (!fs::exists(kGoldens)) GTEST_SKIP() << "no reference goldens in " << kGoldens;
  int64_t compared = 0;
  for (const auto& one : ReadGolden("cases.json")) {
    if (!one.contains("image0.video")) continue;
    const std::string canvas = one["image0.video"]["canvas"];
    const Picture picture = ProcessCanvas(LoadImage((kGoldens / canvas).string()), kRule);
    EXPECT_EQ(Sha256({reinterpret_cast<const char*>(picture.rgb.data()), picture.rgb.size()}),
              one["image0.rgb_sha256"].get<std::string>());
    EXPECT_EQ(LayoutFor(560, 560, kRule).rows, 841);
    const DecodedImage image = LoadImage((kGoldens / canvas).string());
    EXPECT_EQ(CanvasPictureLayout(image.width, image.height, kRule).rows,
              one["image0.rows"].get<int64_t>());
    ++compared;
  }
  EXPECT_GT(compared, 0);
}

}  // namespace
}  // namespace xcomposer
