#include <cstring>

#include "kernels_cuda/device.h"
#include "support/emulator/runtime.h"

namespace xcomposer::cuda {
namespace {

using Order = emulator::Schedule::Order;

const std::vector<emulator::Schedule>& Schedules() {
  static const std::vector<emulator::Schedule> schedules = {
      {Order::kForward}, {Order::kBackward}, {Order::kShuffled, 1}};
  return schedules;
}

}  // namespace

std::string WhyNoDevice() { return ""; }

std::vector<Context> Ways() {
  // Under programmatic launch the emulator refuses what would be read too early.
  std::vector<Context> ways(Schedules().size());
  for (size_t i = 0; i < ways.size(); ++i) {
    ways[i] = {.stream = nullptr,
               .multiprocessors = 3,
               .shared_bytes = 228 * 1024,
               .block_shared_bytes = 227 * 1024,
               .programmatic_launch = i != 1,
               .warpgroup_products = true};
  }
  return ways;
}

void Choose(size_t way) { emulator::SetSchedule(Schedules().at(way)); }

std::string Finish(cudaError_t launched) {
  const std::string fault = emulator::TakeFault();
  if (!fault.empty()) return fault;
  return launched == cudaSuccess ? "" : "refused: error " + std::to_string(launched);
}

DeviceBytes::DeviceBytes(size_t bytes, Role role)
    : data_(emulator::Machine::Instance().global().Allocate(bytes, role == Role::kConstant)),
      bytes_(bytes) {}

DeviceBytes::~DeviceBytes() { emulator::Machine::Instance().global().Free(data_); }

void DeviceBytes::Write(const void* host, size_t bytes) {
  if (bytes > 0) std::memcpy(data_, host, bytes);
}

void DeviceBytes::Read(void* host, size_t bytes) const {
  if (bytes > 0) std::memcpy(host, data_, bytes);
}

std::string DeviceBytes::CheckGuards() const { return ""; }

}  // namespace xcomposer::cuda
