#pragma once

#include <string>

#include "xcomposer/benchmark.h"

namespace xcomposer::cli {

/// For people: what was measured on, the limits, a line per figure, what makes them doubtful.
std::string BenchmarkText(const BenchmarkReport& report);

}  // namespace xcomposer::cli
