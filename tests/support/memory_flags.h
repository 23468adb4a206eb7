#pragma once

#include <cstdint>
#include <fstream>
#include <sstream>
#include <string>

namespace xcomposer::testing_support {

/// The flags that the system shows for the memory around `address`; empty where it shows none.
inline std::string FlagsAt(const void* address) {
  std::ifstream maps("/proc/self/smaps");
  bool here = false;
  for (std::string line; std::getline(maps, line);) {
    uintptr_t begin = 0;
    uintptr_t end = 0;
    char dash = 0;
    std::istringstream text(line);
    if (text >> std::hex >> begin >> dash >> end && dash == '-') {
      const auto place = reinterpret_cast<uintptr_t>(address);
      here = begin <= place && place < end;
    }
    if (here && line.rfind("VmFlags:", 0) == 0) return line + " ";
  }
  return "";
}

}  // namespace xcomposer::testing_support
