#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace xcomposer {

/// What the ranks of a run share and nobody else knows: 16 to 4096 bytes. The memory is cleared
/// when it goes. Cannot be printed.
class Secret {
 public:
  /// Throws kUsage where it is too short or too long. White space at the end of a line that a file
  /// or a shell may have added does not count.
  explicit Secret(const std::string& text);
  Secret(const Secret&) = default;
  Secret& operator=(const Secret&) = default;
  ~Secret();

  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
};

/// From `file` where one is named, else from XCOMPOSER_SECRET, else nothing. Throws kUsage naming
/// the file where it cannot be read.
std::optional<Secret> ReadSecret(const std::optional<std::string>& file,
                                 const std::map<std::string, std::string>& environment);

}  // namespace xcomposer
