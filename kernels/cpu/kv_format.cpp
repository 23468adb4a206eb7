#include "kernels/cpu/kv_format.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace xcomposer::cpu {
namespace {

constexpr uint16_t kNan = 0x7fc0;

/// The scale of a group as bfloat16, rounded up so that no code is beyond 127.
uint16_t ScaleOf(const float* numbers, int64_t count) {
  float largest = 0.0f;
  bool finite = true;
  for (int64_t i = 0; i < count; ++i) {
    finite = finite && std::isfinite(numbers[i]);
    largest = std::max(largest, std::abs(numbers[i]));
  }
  if (!finite) return kNan;
  const float scale = largest / 127.0f;
  if (scale < std::numeric_limits<float>::min()) return 0;
  uint32_t bits;
  std::memcpy(&bits, &scale, sizeof(bits));
  return static_cast<uint16_t>((bits + 0xffffu) >> 16);
}

float Widened(uint16_t scale) {
  const uint32_t bits = static_cast<uint32_t>(scale) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

}  // namespace

void RoundKvHead(const float* numbers, int64_t head_dim, void* out) {
  const int64_t groups = KvGroups(head_dim);
  auto* codes = static_cast<int8_t*>(out);
  auto* scales = static_cast<char*>(out) + groups * kKvGroup;
  for (int64_t group = 0; group < groups; ++group) {
    const int64_t first = group * kKvGroup;
    const int64_t count = std::min(kKvGroup, head_dim - first);
    const uint16_t stored = ScaleOf(numbers + first, count);
    std::memcpy(scales + group * static_cast<int64_t>(sizeof(stored)), &stored, sizeof(stored));
    std::fill(codes + first, codes + first + kKvGroup, int8_t{0});
    if (stored == 0 || stored == kNan) continue;
    const float scale = Widened(stored);
    for (int64_t i = first; i < first + count; ++i) {
      codes[i] = static_cast<int8_t>(std::lrint(numbers[i] / scale));
    }
  }
}

}  // namespace xcomposer::cpu
