#include "kernels/cpu/elementwise.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "kernels/guarded.h"

namespace xcomposer::cpu {
namespace {

constexpr int64_t kSizes[] = {0, 1, 3, 15, 17, 65, 257, 40001};
constexpr double kTiny =
    2e-36;  // e^88.4 and more is infinity for us: 100 * e^-88.4 * 3 may become zero

class ElementwiseTest : public testing::TestWithParam<Isa> {
 protected:
  Context context() { return {.pool = pool_, .isa = GetParam()}; }
  ThreadPool pool_{3};
};

// e^z: at most 2 units from the polynomial and its reduction, and |z| units for the rounding of z
// itself; then sum, quotient and products.
double SigmoidBudget(double z) { return Gamma(8 + static_cast<int64_t>(std::abs(z))); }

TEST_P(ElementwiseTest, QuickGelu) {
  Random random(1);
  for (const int64_t size : kSizes) {
    Guarded<float> x(size);
    random.Fill(x, 60.0f);
    const std::vector<double> in(x.data(), x.data() + size);
    QuickGelu(x.data(), size, context());
    for (int64_t i = 0; i < size; ++i) {
      const double z = static_cast<double>(1.702f) * in[i];
      const double expected = in[i] / (1 + std::exp(-z));
      ASSERT_NEAR(x[i], expected, SigmoidBudget(z) * std::abs(expected) + kTiny) << in[i];
    }
  }
}

TEST_P(ElementwiseTest, SiluMul) {
  Random random(2);
  for (const int64_t size : kSizes) {
    Guarded<float> gate(size);
    Guarded<float> up(size);
    random.Fill(gate, 100.0f);
    random.Fill(up, 3.0f);
    const std::vector<double> in(gate.data(), gate.data() + size);
    SiluMul(gate.data(), up.data(), size, context());
    for (int64_t i = 0; i < size; ++i) {
      const double expected = in[i] / (1 + std::exp(-in[i])) * up[i];
      ASSERT_NEAR(gate[i], expected, SigmoidBudget(in[i]) * std::abs(expected) + kTiny) << in[i];
    }
  }
}

TEST_P(ElementwiseTest, SiluOfExtremes) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  const float in[] = {0.0f, -0.0f, -1000.0f, 1000.0f, kInf, -88.5f, 88.5f, 1e-30f};
  Guarded<float> gate(9);
  Guarded<float> up(9, 1.0f);
  for (int64_t i = 0; i < 8; ++i) gate[i] = in[i];
  gate[8] = std::numeric_limits<float>::quiet_NaN();
  SiluMul(gate.data(), up.data(), 9, context());
  EXPECT_EQ(gate[0], 0.0f);
  EXPECT_EQ(gate[1], 0.0f);
  EXPECT_NEAR(gate[2], 0.0f, 1e-30);
  EXPECT_EQ(gate[3], 1000.0f);
  EXPECT_EQ(gate[4], kInf);
  EXPECT_NEAR(gate[5], 0.0f, 1e-35);
  EXPECT_EQ(gate[6], 88.5f);
  EXPECT_EQ(gate[7], 5e-31f);
  EXPECT_TRUE(std::isnan(gate[8]));
}

TEST_P(ElementwiseTest, Gelu) {
  Random random(3);
  for (const int64_t size : kSizes) {
    Guarded<float> x(size);
    random.Fill(x, 4.0f);
    const std::vector<double> in(x.data(), x.data() + size);
    Gelu(x.data(), size, context());
    for (int64_t i = 0; i < size; ++i) {
      const double expected = 0.5 * in[i] * (1 + std::erf(in[i] / std::sqrt(2.0)));
      // 1 + erf loses its leading digits where erf is near -1: the error is relative to x, not to
      // the result.
      ASSERT_NEAR(x[i], expected, Gamma(4) * std::abs(in[i])) << in[i];
    }
  }
}

TEST_P(ElementwiseTest, Add) {
  Random random(4);
  for (const int64_t size : kSizes) {
    Guarded<float> y(size);
    Guarded<float> x(size);
    random.Fill(y);
    random.Fill(x);
    const std::vector<float> in(y.data(), y.data() + size);
    Add(y.data(), x.data(), size, context());
    for (int64_t i = 0; i < size; ++i) ASSERT_EQ(y[i], in[static_cast<size_t>(i)] + x[i]);
  }
}

TEST_P(ElementwiseTest, EmbeddingTakesRows) {
  Random random(5);
  for (const Format format : {Format::kFloat32, Format::kBfloat16, Format::kFloat16}) {
    for (const int64_t columns : {int64_t{1}, int64_t{17}, int64_t{99}}) {
      const int64_t stride = columns + 3;
      const Stored table(7 * stride, format, random);
      const int64_t ids[] = {6, 0, -1, 3, 3};
      Guarded<float> out(5 * columns, 8.0f);
      Embedding(ids, 5,
                {.data = table.data(),
                 .format = format,
                 .rows = 7,
                 .columns = columns,
                 .row_stride = stride},
                out.data(), context());
      for (int64_t i = 0; i < 5; ++i) {
        for (int64_t c = 0; c < columns; ++c) {
          const double expected = ids[i] < 0 ? 0.0 : table[ids[i] * stride + c];
          ASSERT_EQ(out[i * columns + c], expected) << i << ", " << c;
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(, ElementwiseTest, testing::ValuesIn(RunnableIsas()),
                         [](const auto& info) { return std::string(ToString(info.param)); });

}  // namespace
}  // namespace xcomposer::cpu
