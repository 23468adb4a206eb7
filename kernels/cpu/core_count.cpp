#include "kernels/cpu/core_count.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
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

// Zero where nothing limits us. Inside a container the mount shows the container's own group.
int GroupCores() {
  if (std::ifstream file("/sys/fs/cgroup/cpu.max");
      file) {  // version 2: "max 100000" or "150000 100000"
    std::string quota;
    double period = 0;
    if (file >> quota >> period && quota != "max") {
      return QuotaCores(std::strtod(quota.c_str(), nullptr), period);
    }
    return 0;
  }
  std::ifstream quota_file("/sys/fs/cgroup/cpu/cpu.cfs_quota_us");  // version 1: -1 where unlimited
  std::ifstream period_file("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
  double quota = 0;
  double period = 0;
  if (quota_file >> quota && period_file >> period) return QuotaCores(quota, period);
  return 0;
}

}  // namespace

int UsableCores() {
  const int cores = std::max(1, AffinityCores());
  const int allowed = GroupCores();
  return allowed > 0 ? std::min(cores, allowed) : cores;
}

}  // namespace xcomposer::cpu
