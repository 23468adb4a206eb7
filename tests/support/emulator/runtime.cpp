#include "support/emulator/runtime.h"

#include <utility>

namespace xcomposer::emulator {
namespace {

Schedule current_schedule;
std::string first_fault;

}  // namespace

void SetSchedule(const Schedule& schedule) { current_schedule = schedule; }

cudaError_t LaunchOnMachine(const LaunchConfig& config, const std::function<void()>& kernel) {
  const std::string fault = Machine::Instance().Run(config, current_schedule, kernel);
  if (fault.empty()) return cudaSuccess;
  if (first_fault.empty()) first_fault = fault;
  return cudaErrorLaunchFailure;
}

std::string TakeFault() { return std::exchange(first_fault, ""); }

}  // namespace xcomposer::emulator
