#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <string>

#include "input/image_decoder.h"
#include "support/few_threads.h"
#include "xcomposer/error.h"

namespace xcomposer {
namespace {

void Number(std::string& out, uint32_t value, int bytes) {
  for (int i = bytes; i-- > 0;) out += static_cast<char>(value >> (8 * i) & 0xff);
}

uint32_t Crc32(const std::string& text) {
  uint32_t crc = ~uint32_t{0};
  for (const char c : text) {
    crc ^= static_cast<uint8_t>(c);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ ((crc & 1) != 0 ? 0xEDB88320u : 0u);
  }
  return ~crc;
}

void Chunk(std::string& out, const std::string& kind, const std::string& data, uint32_t crc) {
  Number(out, static_cast<uint32_t>(data.size()), 4);
  out += kind + data;
  Number(out, crc, 4);
}

/// A black PNG of one column of gray pixels, not compressed.
std::string MakeColumn(uint32_t height) {
  std::string header;
  Number(header, 1, 4);
  Number(header, height, 4);
  header += std::string("\x08\0\0\0\0", 5);
  const size_t bytes = size_t{height} * 2;  // a filter and a pixel in each row
  std::string data = "\x78\x01";
  data.reserve(bytes + bytes / 60000 + 100);
  for (size_t done = 0; done < bytes;) {
    const auto size = static_cast<uint32_t>(std::min<size_t>(bytes - done, 65535));
    done += size;
    data += static_cast<char>(done == bytes ? 1 : 0);  // a stored block, the last one or not
    data += {static_cast<char>(size), static_cast<char>(size >> 8), static_cast<char>(~size),
             static_cast<char>(~size >> 8)};
    data.append(size, '\0');
  }
  Number(data, static_cast<uint32_t>(bytes % 65521) << 16 | 1, 4);  // Adler-32 of zeros
  std::string png = "\x89PNG\r\n\x1a\n";
  Chunk(png, "IHDR", header, Crc32("IHDR" + header));
  Chunk(png, "IDAT", data, 0);  // not looked at
  Chunk(png, "IEND", "", Crc32("IEND"));
  return png;
}

/// Ends this process: 0 where the picture can be decoded with 64 MB more, otherwise 1 and the kind
/// of the error.
void DecodeInLittleMemory(const std::string& file) {
  testing::AllowFewMoreThreads();
  try {
    DecodeImage(std::as_bytes(std::span(file.data(), file.size())), {}, "test");
  } catch (const Error& error) {
    std::_Exit(1 + static_cast<int>(error.kind()));
  }
  std::_Exit(0);
}

class PictureMemory : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!testing::kCanLimitThreads) GTEST_SKIP() << "this build's memory cannot be limited";
  }
};

// 24 MB of pixels; a pointer to each row would be 64.
TEST_F(PictureMemory, ManyRowsOfAPngTakeNoMoreThanTheirPixels) {
  const std::string png = MakeColumn(8'000'000);
  EXPECT_EXIT(DecodeInLittleMemory(png), ::testing::ExitedWithCode(0), "");
}

// OpenCV has an exception of its own for it.
TEST_F(PictureMemory, AWebpWithoutMemoryIsNotABrokenOne) {
  const std::string path =
      std::string(XCOMPOSER_SOURCE_DIR) + "/tests/input/pictures/lossless.webp";
  std::string webp = ReadImageFile(path, {});
  ASSERT_EQ(webp.substr(12, 4), "VP8L");
  // Width and height less one, 14 bits each: 16,383 x 10,240.
  const uint32_t size = 16382u | 10239u << 14;
  for (int i = 0; i < 4; ++i) webp[21 + i] = static_cast<char>(size >> (8 * i) & 0xff);
  EXPECT_EXIT(DecodeInLittleMemory(webp),
              ::testing::ExitedWithCode(1 + static_cast<int>(ErrorKind::kCapacity)), "");
}

}  // namespace
}  // namespace xcomposer
