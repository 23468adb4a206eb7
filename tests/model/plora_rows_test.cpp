#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <gtest/gtest.h>

#include "model/plora_linear.h"

namespace xcomposer {
namespace {

// Spans apart, touching and at the end; rows without a span stay as they are.
TEST(LinearOfRows, AreThoseOfTheSpansAlone) {
  const at::Tensor x = at::arange(7, at::kFloat).unsqueeze(1).repeat({1, 4});  // row r is r
  const at::Tensor weight = at::full({3, 4}, 1.0f, at::kBFloat16);
  const at::Tensor y = at::full({7, 3}, -1.0f);
  LinearOfRows_(y, x, weight, {0, 1, 2, 3, 3, 5, 6, 7}, 2.0);
  for (const int64_t row : {0, 2, 3, 4, 6}) {
    EXPECT_TRUE(y[row].eq(8 * row).all().item<bool>()) << row;
  }
  for (const int64_t row : {1, 5}) EXPECT_TRUE(y[row].eq(-1).all().item<bool>()) << row;
}

}  // namespace
}  // namespace xcomposer
