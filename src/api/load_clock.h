#pragma once

#include <chrono>

#include "pipeline/load_times.h"
#include "xcomposer/engine.h"

namespace xcomposer::api {

/// Measures a load from its construction on.
class LoadClock {
 public:
  /// Starts the driver of GPUs, where there are any: the plan asks for their memory.
  LoadClock();

  /// Writes the whole time and what it went into.
  void Stop(const LoadTimes& stages, ModelInfo& info) const;

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  double driver_s_ = 0;
};

}  // namespace xcomposer::api
