#pragma once

#include <cstdint>
#include <string>

#include "nlohmann/json_fwd.hpp"

namespace xcomposer {

/// What a number in a description counts; decides which units may follow it.
enum class Measure {
  kBytes,      ///< "40GiB", "20 GB"; a small b means bits
  kBandwidth,  ///< bytes per second: "1.55TB/s", "25Gb/s"
  kFlops,      ///< "312e12", "312 TFLOP/s"
  kSeconds,    ///< "8us", "0.3ms"
};

/// A number as people write it: a JSON number in the base unit, or text with a unit. `what` names
/// the field in errors. Throws kPlan for anything that is no finite number of that measure, is
/// negative, or exceeds 2^62.
double ParseQuantity(const nlohmann::json& value, Measure measure, const std::string& what);

/// The same for text.
double ParseQuantity(const std::string& text, Measure measure, const std::string& what);

/// Whole bytes.
int64_t ParseBytes(const nlohmann::json& value, const std::string& what);

}  // namespace xcomposer
