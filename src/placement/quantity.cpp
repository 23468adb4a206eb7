#include "placement/quantity.h"

#include <charconv>
#include <cmath>
#include <optional>
#include <string_view>

#include "base/check.h"
#include "nlohmann/json.hpp"

namespace xcomposer {
namespace {

constexpr double kMost = 4.611686018427388e18;  // 2^62

const char* Examples(Measure measure) {
  switch (measure) {
    case Measure::kBytes:
      return "bytes, or text such as \"40GiB\" or \"20GB\"";
    case Measure::kBandwidth:
      return "bytes per second, or text such as \"1.55TB/s\" or \"25Gb/s\"";
    case Measure::kFlops:
      return "operations per second, or text such as \"312e12\" or \"312TFLOP/s\"";
    case Measure::kSeconds:
      return "seconds, or text such as \"8us\"";
  }
  return "a number";
}

[[noreturn]] void Refuse(const std::string& found, Measure measure, const std::string& what) {
  throw Error(ErrorKind::kPlan, StrCat(what, " is ", found, "; expected ", Examples(measure)));
}

double Checked(double number, const std::string& found, Measure measure, const std::string& what) {
  if (!(std::isfinite(number) && number >= 0 && number <= kMost)) Refuse(found, measure, what);
  return number;
}

bool Take(std::string_view& text, std::string_view start) {
  if (text.substr(0, start.size()) != start) return false;
  text.remove_prefix(start.size());
  return true;
}

double TakePrefix(std::string_view& unit) {
  constexpr std::string_view kLetters = "kMGTP";
  for (size_t i = 0; i < kLetters.size(); ++i) {
    const bool here = !unit.empty() && (unit[0] == kLetters[i] || (i == 0 && unit[0] == 'K'));
    if (!here) continue;
    unit.remove_prefix(1);
    const bool binary = Take(unit, "i");
    return std::pow(binary ? 1024.0 : 1000.0, static_cast<double>(i + 1));
  }
  return 1.0;
}

/// The factor of a unit, or nothing where it is none of this measure.
std::optional<double> Factor(std::string_view unit, Measure measure) {
  if (unit.empty()) return 1.0;
  if (measure == Measure::kSeconds) {
    if (unit == "s") return 1.0;
    if (unit == "ms") return 1e-3;
    if (unit == "us" || unit == "\xc2\xb5s") return 1e-6;
    if (unit == "ns") return 1e-9;
    return std::nullopt;
  }
  // As accelerate has it: "10gib" has no bits.
  if (measure == Measure::kBytes && unit.size() == 3 && unit.substr(1) == "ib") {
    const size_t power = std::string_view("kmgtp").find(unit[0]);
    if (power != std::string_view::npos) return std::pow(1024.0, static_cast<double>(power + 1));
  }
  double factor = TakePrefix(unit);
  if (measure == Measure::kFlops) {
    const bool known = Take(unit, "FLOP/s") || Take(unit, "FLOPS") || Take(unit, "FLOPs") ||
                       Take(unit, "FLOP") || Take(unit, "flop/s") || unit.empty();
    return known && unit.empty() ? std::optional(factor) : std::nullopt;
  }
  if (Take(unit, "b")) {
    factor /= 8;
  } else if (!Take(unit, "B")) {
    return std::nullopt;
  }
  if (measure == Measure::kBandwidth) Take(unit, "/s");
  return unit.empty() ? std::optional(factor) : std::nullopt;
}

}  // namespace

double ParseQuantity(const std::string& text, Measure measure, const std::string& what) {
  double number = 0;
  const char* end = text.data() + text.size();
  const auto [stopped, failure] = std::from_chars(text.data(), end, number);
  std::string_view unit(stopped, static_cast<size_t>(end - stopped));
  while (Take(unit, " ")) {
  }
  const auto factor = failure == std::errc() ? Factor(unit, measure) : std::nullopt;
  if (!factor) Refuse("'" + text + "'", measure, what);
  return Checked(number * *factor, "'" + text + "'", measure, what);
}

double ParseQuantity(const nlohmann::json& value, Measure measure, const std::string& what) {
  if (value.is_string()) return ParseQuantity(value.get<std::string>(), measure, what);
  if (!value.is_number()) Refuse(value.dump(), measure, what);
  return Checked(value.get<double>(), value.dump(), measure, what);
}

int64_t ParseBytes(const nlohmann::json& value, const std::string& what) {
  return static_cast<int64_t>(ParseQuantity(value, Measure::kBytes, what));
}

}  // namespace xcomposer
