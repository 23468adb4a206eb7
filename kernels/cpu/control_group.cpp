#include "kernels/cpu/control_group.h"

#include <algorithm>
#include <fstream>
#include <sstream>

namespace xcomposer::cpu {
namespace {

bool Names(const std::string& controllers, const std::string& wanted) {
  std::istringstream names(controllers);
  for (std::string name; std::getline(names, name, ',');) {
    if (name == wanted) return true;
  }
  return false;
}

/// The top of a tree and the group's path below it.
struct Membership {
  std::filesystem::path top;
  std::filesystem::path group;
};

/// From lines "number:controllers:/path"; version 2's is "0::/path".
Membership MembershipOf(const std::string& controller, const ControlGroupFiles& files) {
  Membership membership{files.mount, {}};
  std::ifstream lines(files.membership);
  for (std::string number, controllers, path; std::getline(lines, number, ':') &&
                                              std::getline(lines, controllers, ':') &&
                                              std::getline(lines, path);) {
    const std::filesystem::path group = std::filesystem::path(path).relative_path();
    if (Names(controllers, controller)) return {files.mount / controller, group};
    if (controllers.empty()) membership.group = group;
  }
  return membership;
}

}  // namespace

std::vector<std::filesystem::path> ControlGroups(const std::string& controller,
                                                 const ControlGroupFiles& files) {
  const Membership membership = MembershipOf(controller, files);
  std::vector<std::filesystem::path> groups;
  const auto& whole = membership.group;
  // Else it lies outside of what is mounted here.
  const bool below = std::none_of(whole.begin(), whole.end(),
                                  [](const std::filesystem::path& part) { return part == ".."; });
  for (auto group = whole; below && !group.empty(); group = group.parent_path()) {
    std::error_code error;
    const std::filesystem::path folder = membership.top / group;
    if (std::filesystem::is_directory(folder, error)) groups.push_back(folder);
  }
  groups.push_back(membership.top);
  return groups;
}

}  // namespace xcomposer::cpu
