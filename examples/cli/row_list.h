#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace xcomposer::cli {

/// Rows of a sequence as the command line writes them: "0-7,12,-8--1". Negative numbers count from
/// the end, -1 being the last row.
class RowList {
 public:
  /// Throws kUsage for text that is not a list of rows and ranges.
  static RowList Parse(const std::string& text);

  /// The rows of a sequence of `length`, ascending, each once. Throws kRequest where one lies
  /// outside.
  std::vector<int64_t> Resolve(int64_t length) const;

 private:
  struct Span {
    int64_t first;
    int64_t last;
  };
  std::vector<Span> spans_;
};

}  // namespace xcomposer::cli
