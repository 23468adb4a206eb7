#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/cpu/linear.h"
#include "kernels/guarded.h"

namespace xcomposer::cpu {

/// A sum of products in double, and that of the magnitudes which its error is measured by.
struct DoubleSum {
  double sum = 0;
  double magnitude = 0;

  void Add(double value) { Add(value, std::abs(value)); }
  void Add(double value, double size) {
    sum += value;
    magnitude += size;
  }
};

/// What Linear has made of y, with `before` in it, for the weight's `outputs`: scale, bias and the
/// sum included, within `budget` of the magnitudes; nothing else written. `products(row, n)` gives
/// the DoubleSum of one output.
template <typename Products>
void ExpectLinear(const LinearParams& params, int64_t outputs, const Guarded<float>& y,
                  const std::vector<float>& before, const Stored& bias, double budget,
                  const Products& products) {
  for (int64_t row = 0; row < params.rows; ++row) {
    for (int64_t n = 0; n < params.y_stride; ++n) {
      const double found = y[row * params.y_stride + n];
      const double old = before[static_cast<size_t>(row * params.y_stride + n)];
      if (n >= outputs) {
        ASSERT_EQ(found, old) << "wrote between the rows, at " << row << ", " << n;
        continue;
      }
      DoubleSum expected = products(row, n);
      expected.sum *= params.scale;
      expected.magnitude *= std::abs(params.scale);
      if (params.bias) expected.Add(bias[n]);
      if (params.accumulate) expected.Add(old);
      ASSERT_NEAR(found, expected.sum, budget * expected.magnitude) << "at " << row << ", " << n;
    }
  }
}

/// LinearPair with several threads gives what both give alone, bit for bit. `first_y` and
/// `second_y` are all that the two may write to.
inline void ExpectPairIsBothAlone(const LinearParams& first, Guarded<float>& first_y,
                                  const LinearParams& second, Guarded<float>& second_y,
                                  const IsaKernels& kernels) {
  const auto numbers = [](const Guarded<float>& y) {
    return std::vector<float>(y.data(), y.data() + y.size());
  };
  const std::vector<float> before[] = {numbers(first_y), numbers(second_y)};
  ThreadPool one(1);
  Linear(first, one, kernels);
  Linear(second, one, kernels);
  const std::vector<float> alone[] = {numbers(first_y), numbers(second_y)};
  std::copy(before[0].begin(), before[0].end(), first_y.data());
  std::copy(before[1].begin(), before[1].end(), second_y.data());
  ThreadPool three(3);
  LinearPair(first, second, three, kernels);
  EXPECT_EQ(numbers(first_y), alone[0]);
  EXPECT_EQ(numbers(second_y), alone[1]);
}

}  // namespace xcomposer::cpu
