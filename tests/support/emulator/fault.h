#pragma once

#include <stdexcept>
#include <string>

namespace xcomposer::emulator {

/// What a kernel did that a GPU would not forgive, or would forgive only by chance.
class Fault : public std::runtime_error {
 public:
  explicit Fault(const std::string& what) : std::runtime_error(what) {}
};

/// Where in a kernel something waits or touches memory; made by std::source_location.
struct Site {
  const char* file = "";
  unsigned line = 0;
};

inline std::string ToString(const Site& site) {
  const std::string file = site.file;
  return file.substr(file.rfind('/') + 1) + ":" + std::to_string(site.line);
}

}  // namespace xcomposer::emulator
