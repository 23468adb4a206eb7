#pragma once

#include <cstdint>

namespace xcomposer {

/// What loading the stages of a process took, one after another.
struct LoadTimes {
  double device_s = 0;       ///< until the devices could be used
  double weights_s = 0;      ///< until the weights were there: memory, reading, converting, copying
  double warm_up_s = 0;      ///< see WarmUp
  int64_t weight_bytes = 0;  ///< on the devices
};

}  // namespace xcomposer
