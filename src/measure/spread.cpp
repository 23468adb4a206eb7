#include "measure/spread.h"

#include <algorithm>

namespace xcomposer::measure {

Spread SpreadOf(std::vector<double> runs) {
  if (runs.empty()) return {};
  std::sort(runs.begin(), runs.end());
  const size_t middle = runs.size() / 2;
  const bool odd = runs.size() % 2 != 0;
  return {.median = odd ? runs[middle] : (runs[middle - 1] + runs[middle]) / 2,
          .min = runs.front(),
          .max = runs.back(),
          .runs = static_cast<int64_t>(runs.size())};
}

std::vector<double> RatesOf(double amount, const std::vector<double>& seconds) {
  std::vector<double> rates;
  for (const double time : seconds) {
    if (time > 0) rates.push_back(amount / time);
  }
  return rates;
}

}  // namespace xcomposer::measure
