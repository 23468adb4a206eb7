#pragma once

#include <vector>

#include "xcomposer/benchmark.h"

namespace xcomposer::measure {

/// Of no runs: all zero.
Spread SpreadOf(std::vector<double> runs);

/// `amount` over each of `seconds`; runs without time are left out.
std::vector<double> RatesOf(double amount, const std::vector<double>& seconds);

}  // namespace xcomposer::measure
