#pragma once

#include <cstdint>

namespace xcomposer::cpu {

/// What one group of weights is rounded with.
struct GroupChoice {
  uint16_t scale = 1;  ///< float16
  float zero = 0;
  float error = 0;  ///< squared, of the whole group
};

inline constexpr uint16_t kLargestFloat16 = 0x7bff;

/// The nearest float16, but never zero and never infinite.
uint16_t ScaleOf(float value);

}  // namespace xcomposer::cpu
