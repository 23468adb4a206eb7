#include "api/free_memory.h"

#include <algorithm>
#include <fstream>
#include <optional>
#include <string>
#include <system_error>

namespace xcomposer::api {
namespace {

// One "Key: N kB" line of /proc/meminfo or "key N" line of memory.stat.
std::optional<int64_t> Field(const std::filesystem::path& path, const std::string& wanted) {
  std::ifstream file(path);
  for (std::string key; file >> key;) {
    int64_t value = 0;
    if (key == wanted && file >> value) return value;
    std::getline(file, key);
  }
  return std::nullopt;
}

// A file with one number; "max" means no limit.
std::optional<int64_t> Number(const std::filesystem::path& path) {
  std::ifstream file(path);
  int64_t value = 0;
  if (file >> value) return value;
  return std::nullopt;
}

/// What a group allows and uses. Cached file pages count as used there, but are given back when
/// memory is wanted.
struct GroupMemory {
  std::optional<int64_t> limit;
  std::optional<int64_t> used;
  int64_t cached = 0;
};

GroupMemory Read(const std::filesystem::path& group) {
  std::error_code none;
  if (std::filesystem::exists(group / "memory.current", none)) {  // version 2
    return {Number(group / "memory.max"), Number(group / "memory.current"),
            Field(group / "memory.stat", "inactive_file").value_or(0)};
  }
  return {Number(group / "memory.limit_in_bytes"), Number(group / "memory.usage_in_bytes"),
          Field(group / "memory.stat", "total_inactive_file").value_or(0)};
}

}  // namespace

Memory WithinGroups(Memory memory, const std::vector<std::filesystem::path>& groups) {
  for (const std::filesystem::path& folder : groups) {
    const GroupMemory group = Read(folder);
    if (!group.limit || !group.used) continue;
    const int64_t left = std::max<int64_t>(0, *group.limit - *group.used + group.cached);
    memory.total = std::min(memory.total, *group.limit);
    memory.available = std::min(memory.available, left);
  }
  return memory;
}

Memory HostMemory(const cpu::ControlGroupFiles& files) {
  const Memory machine = {.total = Field("/proc/meminfo", "MemTotal:").value_or(0) * 1024,
                          .available = Field("/proc/meminfo", "MemAvailable:").value_or(0) * 1024};
  return WithinGroups(machine, cpu::ControlGroups("memory", files));
}

}  // namespace xcomposer::api
