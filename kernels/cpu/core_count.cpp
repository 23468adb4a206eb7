#include "kernels/cpu/core_count.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

namespace xcomposer::cpu {
namespace {

int AffinityCores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return CPU_COUNT(&set);
  // More processors than the set has room for, or no such call.
  return static_cast<int>(std::thread::hardware_concurrency());
}

int QuotaCores(double quota, double period) {
  if (quota <= 0 || period <= 0) return 0;
  return static_cast<int>(std::ceil(quota / period));
}

}  // namespace

int CoresWithinGroups(const std::vector<std::filesystem::path>& groups) {
  int least = 0;
  const auto limit = [&least](int cores) {
    if (cores > 0 && (least == 0 || cores < least)) least = cores;
  };
  for (const std::filesystem::path& group : groups) {
    std::string quota;
    double period = 0;
    if (std::ifstream file(group / "cpu.max"); file >> quota >> period) {
      // Version 2: "max 100000" or "150000 100000".
      if (quota != "max") limit(QuotaCores(std::strtod(quota.c_str(), nullptr), period));
      continue;
    }
    std::ifstream quota_file(group / "cpu.cfs_quota_us");  // version 1: -1 where unlimited
    std::ifstream period_file(group / "cpu.cfs_period_us");
    double slice = 0;
    if (quota_file >> slice && period_file >> period) limit(QuotaCores(slice, period));
  }
  return least;
}

int UsableCores(const ControlGroupFiles& files) {
  const int cores = std::max(1, AffinityCores());
  const int allowed = CoresWithinGroups(ControlGroups("cpu", files));
  return allowed > 0 ? std::min(cores, allowed) : cores;
}

}  // namespace xcomposer::cpu
