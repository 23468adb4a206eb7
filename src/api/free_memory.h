#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "kernels/cpu/control_group.h"

namespace xcomposer::api {

struct Memory {
  int64_t total = 0;
  int64_t available = 0;  ///< without pushing anybody out: the page cache counts as available
};

/// Memory of this machine, or less where a control group that this process is in allows less.
/// Bytes.
Memory HostMemory(const cpu::ControlGroupFiles& files = {});

/// `memory`, or less where one of the groups, whose folders these are, allows less.
Memory WithinGroups(Memory memory, const std::vector<std::filesystem::path>& groups);

}  // namespace xcomposer::api
