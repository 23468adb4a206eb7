#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "input/image_decoder.h"
#include "input/image_processor.h"
#include "xcomposer/error.h"

namespace xcomposer {
namespace {

TEST(NoOpencv, EncodedPicturesAreRefusedWithAReason) {
  EXPECT_FALSE(HasImageDecoders());
  const std::vector<std::string> starts = {
      "\xff\xd8\xff\xe0", "\x89PNG\r\n\x1a\n",        "BM12",
      "GIF89a12",         std::string("II\x2a\0", 4), "RIFF1234WEBPVP8 "};
  for (const std::string& start : starts) {
    try {
      DecodeImage(std::as_bytes(std::span(start.data(), start.size())), {}, "picture");
      ADD_FAILURE() << start;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kImage);
      EXPECT_NE(std::string(error.what()).find("without OpenCV"), std::string::npos);
    }
  }
}

TEST(NoOpencv, PixelsStillWork) {
  const Picture picture{2, 2, std::vector<uint8_t>(12, 77)};
  EXPECT_EQ(ProcessPicture(picture, PictureRuleFor("2-7b", 224)).rgb,
            std::vector<uint8_t>(224 * 224 * 3, 77));
}

}  // namespace
}  // namespace xcomposer
