#include "api/free_memory.h"

#include <algorithm>
#include <fstream>
#include <optional>
#include <string>

namespace xcomposer::api {
namespace {

// One "Key: N kB" line of /proc/meminfo or "key N" line of memory.stat.
std::optional<int64_t> Field(const char* path, const std::string& wanted) {
  std::ifstream file(path);
  for (std::string key; file >> key;) {
    int64_t value = 0;
    if (key == wanted && file >> value) return value;
    std::getline(file, key);
  }
  return std::nullopt;
}

// A file with one number; "max" means no limit.
std::optional<int64_t> Number(const char* path) {
  std::ifstream file(path);
  int64_t value = 0;
  if (file >> value) return value;
  return std::nullopt;
}

}  // namespace

Memory HostMemory() {
  Memory memory;
  memory.total = Field("/proc/meminfo", "MemTotal:").value_or(0) * 1024;
  memory.available = Field("/proc/meminfo", "MemAvailable:").value_or(0) * 1024;
  const auto limit = Number("/sys/fs/cgroup/memory.max");
  const auto used = Number("/sys/fs/cgroup/memory.current");
  if (limit && used) {
    // Cached file pages count as used there, but are given back when memory is wanted.
    const int64_t cached = Field("/sys/fs/cgroup/memory.stat", "inactive_file").value_or(0);
    memory.total = std::min(memory.total, *limit);
    memory.available = std::min(memory.available, std::max<int64_t>(0, *limit - *used + cached));
  }
  return memory;
}

}  // namespace xcomposer::api
