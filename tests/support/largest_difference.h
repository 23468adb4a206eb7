#pragma once

#include <cmath>
#include <cstddef>
#include <limits>

namespace xcomposer {

/// The largest difference between two rows of numbers: NaN if one of the differences is, infinite
/// if the rows are not equally long.
template <typename Row>
double LargestDifference(const Row& a, const Row& b) {
  if (a.size() != b.size()) return std::numeric_limits<double>::infinity();
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double difference = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    if (std::isnan(difference)) return difference;
    if (difference > largest) largest = difference;
  }
  return largest;
}

}  // namespace xcomposer
