#pragma once

#include <functional>
#include <string>

#include "support/emulator/machine.h"

// The few names of the CUDA runtime that headers of kernels use.

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorMisalignedAddress = 716,
  cudaErrorStreamCaptureUnsupported = 900,
  cudaErrorStreamCaptureWrongThread = 908,
  cudaErrorLaunchFailure = 719,
  cudaErrorNotSupported = 801,
};
using cudaStream_t = struct CUstream_st*;

namespace xcomposer::emulator {

/// The order of blocks and threads in the launches that follow.
void SetSchedule(const Schedule& schedule);

/// cudaErrorLaunchFailure after a fault, which LastFault() then tells.
cudaError_t LaunchOnMachine(const LaunchConfig& config, const std::function<void()>& kernel);

/// The first fault since the last call; empty if there was none.
std::string TakeFault();

}  // namespace xcomposer::emulator
