#include "input/resample.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "input/sha256.h"

namespace xcomposer {
namespace {

/// Bytes of a linear congruential generator.
Picture Noise(int64_t width, int64_t height) {
  Picture picture{width, height, {}};
  auto state = static_cast<uint32_t>(width * 1000 + height);
  for (int64_t i = 0; i < width * height * 3; ++i) {
    state = state * 1664525 + 1013904223;
    picture.rgb.push_back(static_cast<uint8_t>(state >> 24));
  }
  return picture;
}

std::string Digest(const std::vector<uint8_t>& pixels) {
  return Sha256({reinterpret_cast<const char*>(pixels.data()), pixels.size()});
}

// Recorded from Pillow, the horizontal pass first (Pillow 13 chooses the order by size).
TEST(Resample, EqualsPillowBitForBit) {
  using enum ResampleFilter;
  struct Vector {
    int64_t width, height, new_width, new_height;
    ResampleFilter filter;
    std::string sha256;
  };
  const std::vector<Vector> vectors = {
      {1, 1, 5, 3, kBilinear, "3a72464aa00ece8c1da4d6f20a61aabccebc1a1406c894f14b9e8479e7a9ebf7"},
      {1, 1, 4, 4, kBicubic, "d9bd4d78c17956b4d79017a401e1858a71362c41e225fca74d9dbaf2cec8b5c6"},
      {7, 5, 7, 5, kBicubic, "442fbc9e160921f4ecf058acf7983586a165d597c93d9d567ed0e512457f58ac"},
      {37, 29, 11, 13, kBilinear,
       "79fd5051fc932ea3d03fa1145f5ea3c37caeac59024e28cb6bba5db85035a7c8"},
      {37, 29, 11, 13, kBicubic,
       "7ffaef83168435fd309756c5165f6d0c35ff46495a0943e11e24e3bc05fc5cd8"},
      {19, 23, 61, 47, kBilinear,
       "78b0f6636188e982e3f34e219f96e449856c370fb2953a7526b7102b88d3a1ad"},
      {19, 23, 61, 47, kBicubic,
       "5676642d27e9a9817a5994806e43c855aeea2034a6347331fc17b691a7f06866"},
      {40, 30, 40, 7, kBilinear,
       "bc17cea335f969c239c6cad78fdd82c116d5a27559f26453d93dc7fe6e78a7d2"},
      {40, 30, 9, 30, kBicubic, "a5c12ee725e3b882ac9dbb8a574cb95b717dcb84fabe0618831c2356440a3f9c"},
      {3, 200, 50, 2, kBilinear,
       "48f0b2a7dc3ce3bb041d57c13199413c9d9ba2973009fdfdaf89e8ce69f5cdc2"},
      {200, 3, 2, 50, kBicubic, "1b63f7edf7dbb11485cc28553894c7ad64b7ab50298d256fa7f567b2c637c713"},
      {101, 1, 13, 1, kBilinear,
       "635cfefbfd1fd30a8231fa39861c08f6024c7ea5bb215a02b169706a4d2934b7"},
      {64, 64, 1, 1, kBicubic, "f6cbaea7a4ab36f36c48ddd7d03b7f6a32b8c4533a3ce9f9c4793e6fffe7fbee"},
      {97, 53, 98, 52, kBilinear,
       "7f21afa517b1781311287c6ec00617719b55594b6103e1919c139ba72f3cf53f"},
  };
  for (const Vector& v : vectors) {
    const Picture out = Resize(Noise(v.width, v.height), v.new_width, v.new_height, v.filter);
    EXPECT_EQ(out.width, v.new_width);
    EXPECT_EQ(out.height, v.new_height);
    EXPECT_EQ(Digest(out.rgb), v.sha256)
        << v.width << 'x' << v.height << " to " << v.new_width << 'x' << v.new_height;
  }
}

TEST(Resample, KnowsWhatItTakes) {
  // 490 x 1000 pixels and 4 weights of 4 bytes for each source position at most.
  EXPECT_LE(ResizeScratchBytes({20'000, 1000}, {490, 490}),
            490 * 1000 * 3 + 16 * 21'000 + 24 * 490);
  EXPECT_GE(ResizeScratchBytes({20'000, 1000}, {490, 490}), 490 * 1000 * 3 + 16 * 21'000);
  EXPECT_GT(ResizeScratchBytes({1, 1}, {490, 490}), 490 * 3);
  EXPECT_EQ(ResizeScratchBytes({1, int64_t{1} << 60}, {490, 490}), std::nullopt);
  EXPECT_EQ(ResizeScratchBytes({int64_t{1} << 62, 1}, {490, 490}), std::nullopt);
}

TEST(Resample, OneColourStaysThatColour) {
  const Picture plain{17, 9, std::vector<uint8_t>(17 * 9 * 3, 201)};
  for (const auto filter : {ResampleFilter::kBilinear, ResampleFilter::kBicubic}) {
    for (const auto& [width, height] : std::vector<std::pair<int64_t, int64_t>>{{5, 40}, {40, 2}}) {
      const Picture out = Resize(plain, width, height, filter);
      EXPECT_EQ(out.rgb, std::vector<uint8_t>(static_cast<size_t>(width * height * 3), 201));
    }
  }
}

TEST(Resample, TransposingTwiceChangesNothing) {
  const Picture picture = Noise(67, 35);
  const Picture turned = Transpose(picture);
  EXPECT_EQ(turned.width, 35);
  EXPECT_EQ(turned.rgb[(3 * 35 + 2) * 3 + 1], picture.rgb[(2 * 67 + 3) * 3 + 1]);
  EXPECT_EQ(Transpose(turned).rgb, picture.rgb);
}

}  // namespace
}  // namespace xcomposer
