#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace xcomposer {

/// Two orders of float32 summation differ by roundings of the largest partial sums; over the three
/// layers of these models that stays far below 1e-4 of the size of the scores.
inline void ExpectClose(const std::vector<float>& a, const std::vector<float>& b) {
  ASSERT_EQ(a.size(), b.size());
  double squares = 0;
  for (const float x : a) squares += static_cast<double>(x) * x;
  const double bound = 1e-4 * std::sqrt(squares / static_cast<double>(a.size()));
  for (size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], bound) << i;
}

}  // namespace xcomposer
