#pragma once

#include <cstdint>

#include "kernels/cpu/inline.h"

namespace xcomposer::cpu {

/// How a cache keeps the keys or values of one head at one position, without gaps.
enum class KvFormat {
  kFloat32,  ///< head_dim floats
  /// Groups of kKvGroup numbers that share a scale. First the codes of all groups, int8 from -127
  /// to 127, then the groups' scales in bfloat16: number = scale * code, exact in float32. Codes
  /// that fill up the last group are zero. Where a number of a group is not finite, the scale is
  /// NaN; numbers below the smallest normal scale are zero.
  kInt8,
};

inline constexpr int64_t kKvGroup = 32;

constexpr XCOMPOSER_INLINE int64_t KvGroups(int64_t head_dim) {
  return (head_dim + kKvGroup - 1) / kKvGroup;
}

/// Bytes of the keys or values of one head at one position.
constexpr XCOMPOSER_INLINE int64_t KvHeadBytes(KvFormat format, int64_t head_dim) {
  return format == KvFormat::kFloat32 ? 4 * head_dim : KvGroups(head_dim) * (kKvGroup + 2);
}

/// Rounds `numbers` (head_dim) to kInt8 at `out`. No number that is kept is off by more than half
/// its scale, and a scale is at most 1 + 2^-7 times the group's largest magnitude over 127.
void RoundKvHead(const float* numbers, int64_t head_dim, void* out);

}  // namespace xcomposer::cpu
