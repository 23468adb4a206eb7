#pragma once

#include <filesystem>
#include <vector>

#include "kernels/cpu/control_group.h"

namespace xcomposer::cpu {

/// How many threads can really run at once in this process: the processors of its affinity mask, or
/// fewer where a control group allows less time than that (rounded up). At least 1.
int UsableCores(const ControlGroupFiles& files = {});

/// The least that one of these control groups, whose folders they are, allows; 0: none limits it.
int CoresWithinGroups(const std::vector<std::filesystem::path>& groups);

}  // namespace xcomposer::cpu
