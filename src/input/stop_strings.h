#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace xcomposer {

/// Finds the first of several strings in a text that comes in parts. The first is the one that is
/// complete first; of those that end at the same byte, the longest. So the answer does not depend
/// on the parts.
class StopStrings {
 public:
  /// Empty strings are left out. Throws kRequest for a string that is not UTF-8.
  explicit StopStrings(const std::vector<std::string>& strings);

  /// The text that certainly stands before a stop string; what may be the beginning of one is held
  /// back. After a match nothing more comes.
  std::string Push(std::string_view text);

  /// What was held back, where no match came.
  std::string Finish();

  /// The string found.
  const std::optional<std::string>& found() const { return found_; }

 private:
  struct Candidate {
    std::string text;
    std::vector<size_t> border;
    size_t matched = 0;
  };

  std::vector<Candidate> candidates_;
  std::string held_;
  std::optional<std::string> found_;
};

}  // namespace xcomposer
