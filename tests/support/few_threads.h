#pragma once

#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

namespace xcomposer::testing {

/// Leaves this process room for the stacks of a few more threads only. For a process of the test's
/// own: nothing takes it back.
inline void AllowFewMoreThreads() {
  long pages = 0;
  std::FILE* sizes = std::fopen("/proc/self/statm", "r");
  if (sizes == nullptr || std::fscanf(sizes, "%ld", &pages) != 1) std::abort();
  std::fclose(sizes);
  const auto used = static_cast<rlim_t>(pages) * static_cast<rlim_t>(sysconf(_SC_PAGESIZE));
  const rlimit limit = {used + (rlim_t{64} << 20), RLIM_INFINITY};
  if (setrlimit(RLIMIT_AS, &limit) != 0) std::abort();
}

/// Sanitizers reserve terabytes, which such a limit forbids.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kCanLimitThreads = false;
#else
inline constexpr bool kCanLimitThreads = true;
#endif

}  // namespace xcomposer::testing
