#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

#include "kernels/cuda/number.h"
#include "kernels_cuda/device.h"

namespace xcomposer::cuda {

/// An array on the device.
template <typename T>
class Array {
 public:
  explicit Array(size_t count) : Array(count, Role::kVariable) {}
  explicit Array(const std::vector<T>& host, Role role = Role::kVariable)
      : Array(host.size(), role) {
    bytes_.Write(host.data(), host.size() * sizeof(T));
  }
  ~Array() { EXPECT_EQ(bytes_.CheckGuards(), ""); }

  T* data() const { return static_cast<T*>(bytes_.data()); }
  std::vector<T> Read() const {
    std::vector<T> host(count_);
    bytes_.Read(host.data(), count_ * sizeof(T));
    return host;
  }

 private:
  Array(size_t count, Role role) : bytes_(count * sizeof(T), role), count_(count) {}

  DeviceBytes bytes_;
  size_t count_;
};

template <typename T>
Array<T> Constant(const std::vector<T>& host) {
  return Array<T>(host, Role::kConstant);
}

using Doubles = std::vector<double>;

template <typename T>
Doubles ToDoubles(const std::vector<T>& values) {
  Doubles out(values.size());
  for (size_t i = 0; i < values.size(); ++i) out[i] = static_cast<double>(Widen(values[i]));
  return out;
}

/// Numbers as they are stored: rounded once, here.
class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}

  /// Normal with a heavy tail: every eighth number is five times as large, so that no single one is
  /// lost in the crowd.
  template <typename T>
  std::vector<T> Normal(size_t count, float scale) {
    std::normal_distribution<float> normal(0.0f, scale);
    std::vector<T> out(count);
    for (T& x : out) x = Narrow<T>(normal(engine_) * (engine_() % 8 == 0 ? 5.0f : 1.0f));
    return out;
  }
  int64_t Below(int64_t limit) {
    return static_cast<int64_t>(engine_() % static_cast<uint64_t>(limit));
  }
  template <typename V>
  void Shuffle(std::vector<V>& values) {
    std::shuffle(values.begin(), values.end(), engine_);
  }

 private:
  std::mt19937_64 engine_;
};

template <typename T>
constexpr Format FormatOf() {
  return std::is_same_v<T, Half> ? Format::kFloat16 : Format::kBfloat16;
}

/// x as T holds it.
template <typename T>
double Round(double x) {
  return static_cast<double>(Widen(Narrow<T>(static_cast<float>(x))));
}

/// The rule of the field: a kernel may err twice as much as the plain computation that stores the
/// same things in the same precision, both against float64. `naive` is that computation. Its
/// largest error may be small by luck, so that two float32 roundings are granted in any case.
/// Tensor cores cut off what lies below the last place of their sum, at every 16 products, instead
/// of rounding it: `sums` is what that may come to.
template <typename Out>
void ExpectWithinBudget(const std::vector<Out>& actual, const Doubles& exact, const Doubles& naive,
                        const std::string& what, double sums = 0.0) {
  ASSERT_EQ(actual.size(), exact.size()) << what;
  ASSERT_EQ(actual.size(), naive.size()) << what;
  double naive_error = 0;
  double largest = 0;
  for (size_t i = 0; i < exact.size(); ++i) {
    naive_error = std::max(naive_error, std::abs(naive[i] - exact[i]));
    largest = std::max(largest, std::abs(exact[i]));
  }
  const double floor = 0x1p-22 * largest + sums;
  for (size_t i = 0; i < exact.size(); ++i) {
    const double error = std::abs(static_cast<double>(Widen(actual[i])) - exact[i]);
    // Not (error > budget), which a NaN would pass.
    ASSERT_TRUE(error <= 2 * naive_error + floor)
        << what << ": at " << i << " found " << Widen(actual[i]) << ", expected " << exact[i]
        << "; largest error of the naive computation " << naive_error;
  }
}

template <typename T>
bool SameBits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() &&
         std::equal(reinterpret_cast<const unsigned char*>(a.data()),
                    reinterpret_cast<const unsigned char*>(a.data() + a.size()),
                    reinterpret_cast<const unsigned char*>(b.data()));
}

/// Runs `run(context) -> vector` in every way and returns what all of them gave.
template <typename Run>
auto InEveryWay(const Run& run) {
  const std::vector<Context> ways = Ways();
  decltype(run(ways[0])) first;
  for (size_t i = 0; i < ways.size(); ++i) {
    Choose(i);
    auto result = run(ways[i]);
    if (i == 0) {
      first = std::move(result);
    } else {
      EXPECT_TRUE(SameBits(first, result)) << "the bits depend on the order of threads";
    }
  }
  return first;
}

/// Without a device the tests are skipped by name; XCOMPOSER_REQUIRE_GPU=1 makes that a failure.
class KernelTest : public testing::Test {
 protected:
  void SetUp() override {
    const std::string problem = WhyNoDevice();
    if (problem.empty()) return;
    const char* required = std::getenv("XCOMPOSER_REQUIRE_GPU");
    if (required != nullptr && std::string(required) == "1") {
      FAIL() << "XCOMPOSER_REQUIRE_GPU is set, but there is no device: " << problem;
    }
    GTEST_SKIP() << "no device: " << problem;
  }
};

template <typename T>
class StoredKernelTest : public KernelTest {};
using StoredTypes = testing::Types<Half, BFloat16>;

}  // namespace xcomposer::cuda
