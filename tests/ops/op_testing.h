#pragma once

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <c10/core/InferenceMode.h>
#include <gtest/gtest.h>

#include <initializer_list>
#include <string>
#include <vector>

#include "kernels/cpu/thread_pool.h"
#include "support/reference_ops.h"
#include "xcomposer/error.h"

namespace xcomposer::ops {

/// Ops run as the engine runs them: no autograd, threads installed.
class OpTest : public testing::Test {
 protected:
  OpTest() : scope_(pool_) { at::manual_seed(1); }

 private:
  c10::InferenceMode no_autograd_;
  cpu::ThreadPool pool_{3};
  cpu::ThreadPoolScope scope_;
};

inline at::Tensor Uniform(at::IntArrayRef shape, double scale = 1.0) {
  return (at::rand(shape) * 2 - 1) * scale;
}

inline at::Tensor Ints(std::initializer_list<int32_t> values) {
  const std::vector<int32_t> copy(values);
  return at::tensor(copy, at::kInt);
}

inline const at::ScalarType kStoredTypes[] = {at::kFloat, at::kBFloat16, at::kHalf};

/// |found - expected| <= budget everywhere; `budget` has the shape of the result.
inline void ExpectWithin(const at::Tensor& found, const at::Tensor& expected,
                         const at::Tensor& budget) {
  ASSERT_EQ(found.scalar_type(), at::kFloat);
  ASSERT_EQ(found.sizes(), expected.sizes());
  if (found.numel() == 0) return;
  const at::Tensor excess = (found.to(at::kDouble) - expected).abs() - budget;
  EXPECT_LE(excess.max().item<double>(), 0.0) << found << expected;
}

inline constexpr double kUnit = 1.0 / (1 << 24);

/// Bound of the relative growth of n roundings.
inline double Gamma(int64_t n) {
  return static_cast<double>(n) * kUnit / (1 - static_cast<double>(n) * kUnit);
}

template <typename Body>
void ExpectInternalError(const Body& body, const std::string& part) {
  try {
    body();
    ADD_FAILURE() << "no error where one about '" << part << "' was due";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kInternal);
    EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
  }
}

}  // namespace xcomposer::ops
