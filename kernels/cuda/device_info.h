#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace xcomposer::cuda {

/// One GPU as the CUDA runtime describes it.
struct DeviceInfo {
  int ordinal = 0;
  std::string name;
  int64_t total_bytes = 0;
  int64_t free_bytes = 0;  ///< at the moment of the query
  int compute_major = 0;
  int compute_minor = 0;
};

/// What this build and this machine know of CUDA. Versions are 1000 * major + 10 * minor, 0 where
/// unknown.
struct RuntimeInfo {
  bool built_with_cuda = false;
  int runtime_version = 0;
  int driver_version = 0;  ///< the newest CUDA that the driver can run; 0 without a driver
  std::vector<DeviceInfo> devices;
  std::string
      problem;  ///< why there are no devices, or fewer than the machine has; empty if all is well
};

/// Asks the CUDA runtime. A machine without GPU or driver is an answer, not an error; never throws
/// for it.
RuntimeInfo QueryRuntime();

}  // namespace xcomposer::cuda
