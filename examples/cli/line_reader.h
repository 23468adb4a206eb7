#pragma once

#include <functional>
#include <optional>
#include <string>

namespace xcomposer::cli {

/// Lines of standard input, read with the plain system call so that Ctrl-C can be answered at the
/// prompt.
class LineReader {
 public:
  /// `goes_on` is asked several times a second while a line is waited for, and at once when a
  /// signal has interrupted that: one that comes just before the wait interrupts nothing. False
  /// ends the input.
  explicit LineReader(std::function<bool()> goes_on) : goes_on_(std::move(goes_on)) {}

  /// The next line without its end, or nothing at the end of the input. Throws kUsage where that
  /// cannot be read.
  std::optional<std::string> Next();

 private:
  std::function<bool()> goes_on_;
  std::string buffer_;
  bool ended_ = false;
};

}  // namespace xcomposer::cli
