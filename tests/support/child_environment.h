#pragma once

#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace xcomposer::testing {

/// Whether the variable speaks to the program, or to a rank of a launcher's.
inline bool IsForThePrograms(std::string_view name) {
  constexpr std::array kNames = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"};
  constexpr std::array kPrefixes = {"XCOMPOSER_", "SLURM_",  "OMPI_COMM_",   "PMI_",
                                    "PMIX_",      "MASTER_", "TORCHELASTIC_"};
  if (name == "XCOMPOSER_MAX_ISA") return false;  // a limit of the whole run of tests
  return std::find(kNames.begin(), kNames.end(), name) != kNames.end() ||
         std::any_of(kPrefixes.begin(), kPrefixes.end(),
                     [&](const char* prefix) { return name.starts_with(prefix); });
}

/// In a child, before it becomes the program: it finds `environment`, and nothing that whoever
/// started the tests has set for programs of this kind.
inline void EnterEnvironment(const std::map<std::string, std::string>& environment) {
  std::vector<std::string> unwanted;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    const std::string_view name = text.substr(0, text.find('='));
    if (IsForThePrograms(name)) unwanted.emplace_back(name);
  }
  for (const std::string& name : unwanted) unsetenv(name.c_str());
  for (const auto& [name, value] : environment) setenv(name.c_str(), value.c_str(), 1);
}

}  // namespace xcomposer::testing
