#pragma once

#include <CLI/CLI.hpp>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <optional>
#include <sstream>
#include <string>

namespace xcomposer::cli {

// Of options, and of the keys of a request that say the same.
inline constexpr int64_t kMostTokens = int64_t{1} << 30;
inline constexpr int64_t kMostBeams = 256;

/// The limits of a number on the command line, both included.
template <typename T>
struct Range {
  T low;
  T high;
};

/// Reads the whole text as a number within the range; CLI11's own conversion takes octal and wraps
/// around.
template <typename T>
T ParseNumber(const std::string& option, const std::string& text, Range<T> range) {
  T value{};
  const char* end = text.data() + text.size();
  const auto [stopped, failure] = std::from_chars(text.data(), end, value);
  if (failure != std::errc() || stopped != end || !(value >= range.low && value <= range.high)) {
    std::ostringstream message;
    message << "expected a number from " << range.low << " to " << range.high << ", found '" << text
            << "'";
    throw CLI::ValidationError(option, message.str());
  }
  return value;
}

template <typename T>
CLI::Option* AddNumber(CLI::App& command, const std::string& option, std::optional<T>& target,
                       Range<T> range, const std::string& help) {
  return command
      .add_option_function<std::string>(
          option,
          [&target, option, range](const std::string& text) {
            target = ParseNumber<T>(option, text, range);
          },
          help)
      ->type_name("N");
}

}  // namespace xcomposer::cli
