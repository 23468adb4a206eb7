#include "api/load_clock.h"

#include "kernels/cuda/device_info.h"

namespace xcomposer::api {
namespace {

double SecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

LoadClock::LoadClock() {
  cuda::QueryRuntime();
  driver_s_ = SecondsSince(start_);
}

void LoadClock::Stop(const LoadTimes& stages, ModelInfo& info) const {
  info.load_s = SecondsSince(start_);
  info.load = {.device_s = driver_s_ + stages.device_s,
               .weights_s = stages.weights_s,
               .warm_up_s = stages.warm_up_s,
               .weight_bytes = stages.weight_bytes};
}

}  // namespace xcomposer::api
