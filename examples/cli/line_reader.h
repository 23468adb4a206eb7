#pragma once

#include <functional>
#include <optional>
#include <string>

namespace xcomposer::cli {

/// Lines of standard input, read with the plain system call so that Ctrl-C can be answered at the
/// prompt.
class LineReader {
 public:
  /// `on_interrupt` runs when a signal arrives while a line is waited for; false ends the input.
  explicit LineReader(std::function<bool()> on_interrupt)
      : on_interrupt_(std::move(on_interrupt)) {}

  /// The next line without its end, or nothing at the end of the input. Throws kUsage where that
  /// cannot be read.
  std::optional<std::string> Next();

 private:
  std::function<bool()> on_interrupt_;
  std::string buffer_;
  bool ended_ = false;
};

}  // namespace xcomposer::cli
