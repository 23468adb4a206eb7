#pragma once

#include <nlohmann/json.hpp>

#include "xcomposer/benchmark.h"

namespace xcomposer::cli {

/// The report with every figure in base units: seconds, bytes, operations, per second, percent.
nlohmann::json ToJson(const BenchmarkReport& report);

}  // namespace xcomposer::cli
