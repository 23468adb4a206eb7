#pragma once

#include <string_view>
#include <vector>

namespace xcomposer {

/// For n = 0 .. pattern.size(): the length of the longest proper prefix of the first n bytes that
/// is also their suffix; the failure table of Knuth, Morris and Pratt.
inline std::vector<size_t> PrefixBorders(std::string_view pattern) {
  std::vector<size_t> border(pattern.size() + 1, 0);
  for (size_t n = 2; n <= pattern.size(); ++n) {
    size_t length = border[n - 1];
    while (length > 0 && pattern[length] != pattern[n - 1]) length = border[length];
    if (pattern[length] == pattern[n - 1]) ++length;
    border[n] = length;
  }
  return border;
}

}  // namespace xcomposer
