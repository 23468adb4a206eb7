#include "kernels/cpu/norm.h"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/guarded.h"

namespace xcomposer::cpu {
namespace {

constexpr int64_t kColumns[] = {1, 3, 16, 17, 63, 64, 65, 99, 257, 1024};
constexpr int64_t kRows[] = {1, 3, 19};
constexpr float kEps = 1e-5f;

class NormTest : public testing::TestWithParam<Isa> {};

TEST_P(NormTest, RmsNormAgreesWithDouble) {
  Random random(1);
  ThreadPool pool(3);
  for (const int64_t columns : kColumns) {
    for (const int64_t rows : kRows) {
      for (const Format format : {Format::kFloat32, Format::kBfloat16, Format::kFloat16}) {
        Guarded<float> x(rows * columns);
        Guarded<float> out(rows * columns);
        random.Fill(x, 30.0f);
        const Stored weight(columns, format, random);
        RmsNorm({.x = x.data(), .out = out.data(), .rows = rows, .columns = columns, .eps = kEps},
                weight.Vector(), {.pool = pool, .isa = GetParam()});
        for (int64_t row = 0; row < rows; ++row) {
          double squares = 0;
          for (int64_t c = 0; c < columns; ++c) squares += std::pow(x[row * columns + c], 2);
          const double factor = 1 / std::sqrt(squares / static_cast<double>(columns) + kEps);
          for (int64_t c = 0; c < columns; ++c) {
            const double expected = x[row * columns + c] * factor * weight[c];
            // The sum's error is halved by the root; then division, eps, root, reciprocal, two
            // products.
            const double budget = Gamma(columns / 2 + 8) * std::abs(expected);
            ASSERT_NEAR(out[row * columns + c], expected, budget)
                << rows << " x " << columns << ", " << ToString(format) << ", at " << row << ", "
                << c;
          }
        }
      }
    }
  }
}

TEST_P(NormTest, LayerNormAgreesWithDouble) {
  Random random(2);
  ThreadPool pool(3);
  for (const int64_t columns : kColumns) {
    for (const int64_t rows : kRows) {
      for (const Format format : {Format::kFloat32, Format::kBfloat16, Format::kFloat16}) {
        Guarded<float> x(rows * columns);
        random.Fill(x, 3.0f);
        std::vector<double> before(x.data(), x.data() + x.size());
        const Stored weight(columns, format, random);
        const Stored bias(columns, format, random);
        // In place, which is allowed.
        LayerNorm({.x = x.data(), .out = x.data(), .rows = rows, .columns = columns, .eps = kEps},
                  weight.Vector(), bias.Vector(), {.pool = pool, .isa = GetParam()});
        for (int64_t row = 0; row < rows; ++row) {
          const double* in = before.data() + row * columns;
          double sum = 0;
          double magnitude = 0;
          for (int64_t c = 0; c < columns; ++c) {
            sum += in[c];
            magnitude += std::abs(in[c]);
          }
          const double mean = sum / static_cast<double>(columns);
          double squares = 0;
          for (int64_t c = 0; c < columns; ++c) squares += (in[c] - mean) * (in[c] - mean);
          const double factor = 1 / std::sqrt(squares / static_cast<double>(columns) + kEps);
          // By how much the mean may be off, and with it every difference.
          const double mean_error =
              Gamma(columns + 1) * magnitude / static_cast<double>(columns) + kUnit * 3;
          for (int64_t c = 0; c < columns; ++c) {
            const double normal = (in[c] - mean) * factor;
            const double expected = normal * weight[c] + bias[c];
            const double spread = 2 * mean_error * factor;
            const double budget =
                (mean_error * factor + std::abs(normal) * (spread + Gamma(columns / 2 + 9))) *
                    std::abs(weight[c]) +
                Gamma(2) * (std::abs(normal * weight[c]) + std::abs(bias[c]));
            ASSERT_NEAR(x[row * columns + c], expected, budget)
                << rows << " x " << columns << ", " << ToString(format) << ", at " << row << ", "
                << c;
          }
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(, NormTest, testing::ValuesIn(RunnableIsas()),
                         [](const auto& info) { return std::string(ToString(info.param)); });

}  // namespace
}  // namespace xcomposer::cpu
