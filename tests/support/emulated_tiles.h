#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <stdexcept>

#include "kernels/cpu/simd_portable.h"

namespace xcomposer::cpu {

/// Portable with the tiles of kernels/cpu/simd_amx.h in plain code, as Intel's manual (volume 2,
/// TDPBF16PS, TDPBSUD, TDPBUUD) defines them: proves on any machine which numbers the kernels bring
/// together. Tiles that nobody has set hold what shows: not-a-numbers, and large integers.
struct EmulatedTiles : Portable {
  static void BeginTiles() {
    Tiles& tiles = Here();
    if (tiles.begun) throw std::logic_error("tiles were begun twice");
    tiles.begun = true;
    std::memset(tiles.bytes, 0xff, sizeof(tiles.bytes));
  }
  static void EndTiles() {
    Begun();
    Here().begun = false;
  }

  template <int tile>
  static void ZeroTile() {
    std::memset(Place<tile>(), 0, kBytes);
  }
  template <int tile>
  static void LoadTile(const void* place, int64_t stride) {
    for (int64_t i = 0; i < 16; ++i) {
      std::memcpy(Place<tile>() + 64 * i, static_cast<const char*>(place) + i * stride, 64);
    }
  }
  template <int tile>
  static void StoreTile(void* place, int64_t stride) {
    for (int64_t i = 0; i < 16; ++i) {
      std::memcpy(static_cast<char*>(place) + i * stride, Place<tile>() + 64 * i, 64);
    }
  }

  template <int sums, int a, int b>
  static void DotBfloats() {
    static_assert(sums != a && sums != b && a != b);
    for (int64_t i = 0; i < 16; ++i) {
      for (int64_t j = 0; j < 16; ++j) {
        float parts[2] = {0.0f, 0.0f};  // even and odd inputs
        for (int64_t l = 0; l < 16; ++l) {
          for (int64_t p = 0; p < 2; ++p) {
            const float x = Bfloat(At<uint16_t>(Place<a>(), 32 * i + 2 * l + p));
            const float y = Bfloat(At<uint16_t>(Place<b>(), 32 * l + 2 * j + p));
            parts[p] = Flushed(std::fma(x, y, parts[p]));
          }
        }
        float sum = Flushed(At<float>(Place<sums>(), 16 * i + j));
        sum = Flushed(sum + Flushed(parts[0] + parts[1]));
        std::memcpy(Place<sums>() + 4 * (16 * i + j), &sum, 4);
      }
    }
  }
  template <int sums, int a, int b>
  static void DotSigned() {
    DotCodes<sums, a, b, int8_t>();
  }
  template <int sums, int a, int b>
  static void DotUnsigned() {
    DotCodes<sums, a, b, uint8_t>();
  }

  static W JoinPlanes(W high, W low) { return high * 256u + low; }

  static void TurnTile(const float* tile, float* out, int64_t stride) {
    for (int64_t i = 0; i < 16; ++i) {
      for (int64_t j = 0; j < 16; ++j) out[j * stride + i] = tile[16 * i + j];
    }
  }

  template <int kParts>
  static void PackPairs(const float* const (&rows)[16], int64_t count, uint16_t* out) {
    for (int64_t j = 0; j < 16; ++j) {
      for (int64_t k = 0; k < 32; ++k) {
        float x = k < count ? rows[j][k] : 0.0f;
        for (int64_t part = 0; part < kParts; ++part) {
          uint16_t& place = out[512 * part + 32 * (k / 2) + 2 * j + k % 2];
          place = NearestBfloat(x);
          float value;
          const uint32_t bits = static_cast<uint32_t>(place) << 16;
          std::memcpy(&value, &bits, 4);
          x = std::isfinite(value) ? x - value : 0.0f;
        }
      }
    }
  }

 private:
  static constexpr int64_t kBytes = 1024;

  struct Tiles {
    bool begun = false;
    char bytes[8][kBytes];
  };

  static Tiles& Here() {
    static thread_local Tiles tiles;
    return tiles;
  }
  static void Begun() {
    if (!Here().begun) throw std::logic_error("a tile is used before BeginTiles");
  }
  template <int tile>
  static char* Place() {
    static_assert(tile >= 0 && tile < 8);
    Begun();
    return Here().bytes[tile];
  }
  template <typename T>
  static T At(const char* tile, int64_t i) {
    T value;
    std::memcpy(&value, tile + static_cast<int64_t>(sizeof(T)) * i, sizeof(T));
    return value;
  }

  static float Flushed(float x) {
    return std::fpclassify(x) == FP_SUBNORMAL ? std::copysign(0.0f, x) : x;
  }
  static float Bfloat(uint16_t stored) {
    const uint32_t bits = static_cast<uint32_t>(stored) << 16;
    float x;
    std::memcpy(&x, &bits, 4);
    return Flushed(x);
  }
  /// To even where two are as near; the largest finite one above it.
  static uint16_t NearestBfloat(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    if (std::isnan(x)) return static_cast<uint16_t>(bits >> 16 | 0x40u);
    const uint32_t nearest = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
    const bool overflows = std::isfinite(x) && (nearest & 0x7fffu) == 0x7f80u;
    return static_cast<uint16_t>(overflows ? nearest - 1 : nearest);
  }

  template <int sums, int a, int b, typename Left>
  static void DotCodes() {
    static_assert(sums != a && sums != b && a != b);
    for (int64_t i = 0; i < 16; ++i) {
      for (int64_t j = 0; j < 16; ++j) {
        auto sum = At<uint32_t>(Place<sums>(), 16 * i + j);
        for (int64_t l = 0; l < 16; ++l) {
          for (int64_t p = 0; p < 4; ++p) {
            const int32_t x = At<Left>(Place<a>(), 64 * i + 4 * l + p);
            const int32_t y = At<uint8_t>(Place<b>(), 64 * l + 4 * j + p);
            sum += static_cast<uint32_t>(x * y);
          }
        }
        std::memcpy(Place<sums>() + 4 * (16 * i + j), &sum, 4);
      }
    }
  }
};

}  // namespace xcomposer::cpu
