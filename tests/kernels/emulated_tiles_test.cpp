#include "support/emulated_tiles.h"

#include <gtest/gtest.h>

#include <cstring>
#include <stdexcept>
#include <vector>

#include "kernels/guarded.h"

namespace xcomposer::cpu {
namespace {

// The emulated instructions against the products of matrices that they stand for.
TEST(EmulatedTilesTest, FollowTheManual) {
  Random random(39);
  constexpr int64_t kRow = 80;  // rows of the memory lie apart
  std::vector<uint8_t> a(16 * kRow), b(16 * kRow);
  for (auto& byte : a) byte = static_cast<uint8_t>(random.Bits());
  for (auto& byte : b) byte = static_cast<uint8_t>(random.Bits());
  std::vector<int32_t> found(256);
  EmulatedTiles::BeginTiles();
  for (const bool is_signed : {true, false}) {
    EmulatedTiles::ZeroTile<0>();
    EmulatedTiles::LoadTile<1>(a.data(), kRow);
    EmulatedTiles::LoadTile<2>(b.data(), kRow);
    for (int i = 0; i < 2; ++i) {
      is_signed ? EmulatedTiles::DotSigned<0, 1, 2>() : EmulatedTiles::DotUnsigned<0, 1, 2>();
    }
    EmulatedTiles::StoreTile<0>(found.data(), 64);
    for (int64_t i = 0; i < 16; ++i) {
      for (int64_t j = 0; j < 16; ++j) {
        int32_t sum = 0;
        for (int64_t k = 0; k < 64; ++k) {
          const int32_t x = a[static_cast<size_t>(i * kRow + k)];
          const int32_t y = b[static_cast<size_t>(k / 4 * kRow + 4 * j + k % 4)];
          sum += 2 * (is_signed && x > 127 ? x - 256 : x) * y;
        }
        ASSERT_EQ(found[static_cast<size_t>(16 * i + j)], sum);
      }
    }
  }
  // Small whole numbers: exact in bfloat16 and in the sums.
  const auto bfloat = [](int64_t whole) {
    const auto value = static_cast<float>(whole);
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    return static_cast<uint16_t>(bits >> 16);
  };
  std::vector<uint16_t> x(16 * 32), y(16 * 32);
  for (int64_t i = 0; i < 512; ++i) {
    x[static_cast<size_t>(i)] = bfloat(i % 23 - 11);
    y[static_cast<size_t>(i)] = bfloat(i % 19 - 7);
  }
  std::vector<float> sums(256, 1.0f);
  EmulatedTiles::LoadTile<0>(sums.data(), 64);
  EmulatedTiles::LoadTile<1>(x.data(), 64);
  EmulatedTiles::LoadTile<2>(y.data(), 64);
  EmulatedTiles::DotBfloats<0, 1, 2>();
  EmulatedTiles::StoreTile<0>(sums.data(), 64);
  EmulatedTiles::EndTiles();
  for (int64_t i = 0; i < 16; ++i) {
    for (int64_t j = 0; j < 16; ++j) {
      int64_t sum = 1;
      for (int64_t k = 0; k < 32; ++k) {
        const int64_t place = k / 2 * 32 + 2 * j + k % 2;
        sum += ((32 * i + k) % 23 - 11) * (place % 19 - 7);
      }
      ASSERT_EQ(sums[static_cast<size_t>(16 * i + j)], static_cast<float>(sum));
    }
  }
}

// Controls: a kernel that forgets to begin, or begins twice, is found.
TEST(EmulatedTilesTest, NoticesWhereTilesBegin) {
  EXPECT_THROW(EmulatedTiles::ZeroTile<0>(), std::logic_error);
  EmulatedTiles::BeginTiles();
  EXPECT_THROW(EmulatedTiles::BeginTiles(), std::logic_error);
  EmulatedTiles::EndTiles();
  EXPECT_THROW(EmulatedTiles::EndTiles(), std::logic_error);
}

}  // namespace
}  // namespace xcomposer::cpu
