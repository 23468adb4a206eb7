#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace xcomposer::cpu {

/// Where Linux shows control groups, and which ones this process is in.
struct ControlGroupFiles {
  std::filesystem::path mount = "/sys/fs/cgroup";
  std::filesystem::path membership = "/proc/self/cgroup";
};

/// The folders of this process's group and of those around it, which limit it too, inmost first;
/// `controller` is "memory" or "cpu". Version 1 has a tree for each controller, version 2 one for
/// all. In a container whose mount begins with its own group that is the only one.
std::vector<std::filesystem::path> ControlGroups(const std::string& controller,
                                                 const ControlGroupFiles& files = {});

}  // namespace xcomposer::cpu
