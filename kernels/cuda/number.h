#pragma once

#include <cstdint>
#include <cstring>

namespace xcomposer::cuda {

/// How weights, activations and keys and values are stored. Sums are float32 in any case.
enum class Format { kFloat16, kBfloat16 };

// The 16 bits of a stored number. Not CUDA's __half: these compile without CUDA too.
struct Half {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

/// What one 16-byte load brings: 8 stored numbers, or 4 of float32.
struct alignas(16) Vector16 {
  uint32_t words[4];
};

// Conversions on the host; on the device see ToFloat and FromFloat.

inline float Widen(float x) { return x; }

inline float Widen(BFloat16 x) {
  const uint32_t bits = uint32_t{x.bits} << 16;
  float f;
  std::memcpy(&f, &bits, 4);
  return f;
}

inline float Widen(Half x) {
  const uint32_t sign = uint32_t{x.bits & 0x8000u} << 16;
  const uint32_t rest = x.bits & 0x7FFFu;
  uint32_t bits;
  if (rest >= 0x7C00) {
    bits = sign | 0x7F800000 | (rest & 0x3FF) << 13;
  } else if (rest >= 0x400) {
    bits = sign | ((rest << 13) + 0x38000000);
  } else {  // zero and subnormals: a multiple of 2^-24
    const float magnitude = static_cast<float>(rest) * 0x1p-24f;
    return sign != 0 ? -magnitude : magnitude;
  }
  float f;
  std::memcpy(&f, &bits, 4);
  return f;
}

/// Nearest, ties to even; too large becomes infinite.
template <typename T>
T Narrow(float x);

template <>
inline float Narrow<float>(float x) {
  return x;
}

template <>
inline BFloat16 Narrow<BFloat16>(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  if (x != x) return {static_cast<uint16_t>(bits >> 16 | 0x40)};
  bits += 0x7FFF + (bits >> 16 & 1);
  return {static_cast<uint16_t>(bits >> 16)};
}

template <>
inline Half Narrow<Half>(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  const uint32_t sign = bits >> 16 & 0x8000;
  bits &= 0x7FFFFFFF;
  if (bits > 0x7F800000) return {static_cast<uint16_t>(sign | 0x7E00)};
  if (bits >= 0x477FF000) return {static_cast<uint16_t>(sign | 0x7C00)};  // rounds past 65504
  if (bits < 0x38800000) {  // under 2^-14: adding 0.5 leaves the multiple of 2^-24 in the low bits
    float magnitude;
    std::memcpy(&magnitude, &bits, 4);
    magnitude += 0.5f;
    std::memcpy(&bits, &magnitude, 4);
    return {static_cast<uint16_t>(sign | (bits - 0x3F000000))};
  }
  bits += 0xFFF + (bits >> 13 & 1);
  return {static_cast<uint16_t>(sign | (bits - 0x38000000) >> 13)};
}

}  // namespace xcomposer::cuda
